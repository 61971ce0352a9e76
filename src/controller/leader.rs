//! Which replica writes: the one that holds the Lease.

use std::{sync::Arc, time::Duration};

use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::lease::{self, Lease};

const LEASE: &str = "mesh-optin-controller";
/// For how many seconds a Lease that is not renewed holds, and how long before its end it is renewed.
pub(super) const DURATION: u64 = 15;
const RENEWED_BEFORE: u64 = 10;
/// Before the next try, where the API server cannot be asked; and for giving the Lease back.
const PAUSE: Duration = Duration::from_secs(2);

/// Says whether this replica leads, until `end`; then gives the Lease back. One that cannot renew it does not lead: whatever the library
/// knows of its own Lease is forgotten with each failure. That also recreates a Lease that was deleted.
pub(super) async fn elect(
    client: Client,
    (namespace, identity): (&str, &str),
    lease: &Arc<Lease>,
    end: Arc<Notify>,
) {
    let client = lease::client(client, identity, lease);
    loop {
        let manager = LeaseManagerBuilder::new(client.clone(), LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(RENEWED_BEFORE)
            .build();
        let failure = match manager.await {
            Ok(manager) => loop {
                tokio::select! {
                    () = end.notified() => {
                        tokio::time::timeout(PAUSE, manager.release()).await.ok();
                        return;
                    }
                    changed = manager.changed() => match changed {
                        Ok(leading) => {
                            info!(identity, "this replica {}", if leading { "leads" } else { "follows" });
                            lease.set(leading);
                        }
                        Err(error) => break error,
                    }
                }
            },
            Err(error) => error,
        };
        if lease.set(false) {
            warn!("this replica no longer leads: the Lease cannot be renewed: {failure}");
        }
        tokio::select! {
            () = end.notified() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
