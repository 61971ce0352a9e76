use super::{
    attempt::Attempt,
    lock::lock,
    wanted::{Done, Handling, Redirection},
};
use crate::{
    kernel::{Netns, Network, netns::cookie},
    node::attachments,
    plan::Plan,
    reason::Explanation,
};

/// Redirects. A repeated ADD finds everything as it should be and changes nothing, and so does one whose attachment has no settings of its
/// own. One that was killed is completed. Another plan in the namespace is a conflict, and stays. This thread is in the namespace afterwards.
pub fn redirect(netns: &Netns, wanted: &Redirection<'_>) -> Result<Done, Explanation> {
    netns.enter_for_good()?;
    redirect_in_netns(netns, wanted)
}

/// The same on a thread that is in the namespace.
fn redirect_in_netns(netns: &Netns, wanted: &Redirection<'_>) -> Result<Done, Explanation> {
    let cookie = cookie()?;
    let _alone = lock(cookie, wanted.deadline)?;
    let interfaces = Network::open(wanted.deadline)?;
    // where it cannot be read the kernel's word counts alone
    let earlier = attachments::get(&wanted.attached.container_id)
        .ok()
        .flatten();
    let earlier = earlier.filter(|record| record.netns_cookie == cookie);
    let handling = wanted.choose_handling(earlier.as_ref())?;
    let intent = match (&earlier, handling) {
        (Some(earlier), Handling::Keep) => &earlier.intent,
        _ => wanted.intent,
    };
    let network = match &earlier {
        // what was there at the first ADD counts: an interface that came later changes nothing
        Some(earlier) if handling != Handling::Make => earlier.network.clone(),
        _ => interfaces.pod_network()?,
    };
    let plan = Plan::new(intent, &network)?;
    let attempt = Attempt {
        netns,
        interfaces: &interfaces,
        wanted,
        plan: &plan,
        network,
        cookie,
        earlier: earlier.as_ref(),
        handling,
    };
    let mut done = attempt.apply()?;
    done.warnings.extend(plan.warnings);
    Ok(done)
}
