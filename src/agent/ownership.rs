//! Whether this agent owns its node. Most of its tasks run only while it does.

use tokio::sync::watch;

/// The role of this agent on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is starting.
    Starting,
    /// Another agent owns the node.
    StandingBy,
    /// Plugins ask this agent.
    Owner,
}

/// Whether this agent owns its node.
pub(super) struct Ownership(watch::Sender<Role>);

impl Ownership {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Role::Starting))
    }

    pub(super) fn role(&self) -> Role {
        *self.0.borrow()
    }

    pub(super) fn set(&self, role: Role) {
        self.0
            .send_if_modified(|before| std::mem::replace(before, role) != role);
    }

    /// Reports every later change.
    pub(super) fn changes(&self) -> watch::Receiver<Role> {
        self.0.subscribe()
    }

    /// Runs `work` from its beginning whenever this agent becomes the owner, until it is canceled.
    pub(super) async fn while_owner(&self, work: impl AsyncFn()) {
        let mut role = self.changes();
        while role.wait_for(|role| *role == Role::Owner).await.is_ok() {
            tokio::select! {
                () = work() => return,
                _ = role.wait_for(|role| *role != Role::Owner) => {}
            }
        }
    }
}
