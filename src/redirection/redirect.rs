use super::{
    attempt::Attempt,
    wanted::{Redirection, earlier},
};
use crate::{
    kernel::{Interfaces as KernelInterfaces, Netns, netns::cookie},
    mesh::Interfaces,
    plan::Plan,
    reason::{Explanation, Reason},
};

/// What came of it.
pub struct Done {
    /// Redirected or AlreadyRedirected.
    pub reason: Reason,
    /// What someone should know.
    pub warnings: Vec<Explanation>,
}

/// Redirects. A repeated ADD finds everything right and changes nothing; one that was killed is completed; another plan in the
/// namespace is a conflict, and stays.
pub fn redirect(netns: &Netns, wanted: &Redirection<'_>) -> Result<Done, Explanation> {
    netns.run(|| {
        let cookie = cookie()?;
        let interfaces = KernelInterfaces::open(wanted.deadline)?;
        let earlier = earlier(wanted, cookie)?;
        let network = match &earlier {
            // what was there at the first ADD counts: an interface that came later changes nothing
            Some(earlier) => earlier.network.clone(),
            None => interfaces.pod_network(wanted.intent.interfaces == Interfaces::Primary)?,
        };
        let plan = Plan::new(wanted.intent, &network)?;
        let attempt = Attempt {
            netns,
            interfaces: &interfaces,
            wanted,
            plan: &plan,
            network,
            cookie,
        };
        let (reason, mut warnings) = attempt.by_backend(earlier.as_ref())?;
        warnings.extend(plan.warnings);
        Ok(Done { reason, warnings })
    })
}
