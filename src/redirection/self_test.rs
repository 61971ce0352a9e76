//! Tests whether this node can redirect: does what an ADD would do for a pod that opts in, in a network namespace made for the test,
//! with each backend and mode.

use std::path::Path;

use crate::{
    cni::search_path,
    deadline::Deadline,
    kernel::{
        Backend, Iptables, KernelError, Live, Netns, Network, Nftables, Tools, Wiring,
        netns::run_in_scratch,
    },
    mesh::{
        Attachment, Decision, InterceptionMode, Namespace, Pod, annotation, assume_injected,
        decide, label,
    },
    plan::{Plan, PodNetwork, summary},
    profile::{BackendPolicy, IpFamilies, Profile},
    reason::{Explanation, Reason},
};

use super::lacking::{Kind, Unsupported};

/// Tries it. IPv6 is tried where the kernel has it: pods of a node without need none. An error where nothing could be tried.
pub fn self_test(deadline: Deadline) -> Result<Unsupported, Explanation> {
    let has_ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let mut lacking = Unsupported::default();
    let tools = Tools::find(&search_path(), deadline)
        .map_err(|e| Reason::IptablesMissing.because(e.to_string()));
    for backend in [BackendPolicy::Nftables, BackendPolicy::Iptables] {
        for mode in InterceptionMode::ALL {
            for ipv6 in [false, true].into_iter().take(1 + usize::from(has_ipv6)) {
                let plan = plan(mode, ipv6)?;
                let made = match backend {
                    BackendPolicy::Nftables | BackendPolicy::Auto => {
                        apply_and_read_back(|_| Nftables::open(deadline), &plan, deadline)
                    }
                    BackendPolicy::Iptables => by_iptables(&tools, &plan, deadline),
                };
                if let Err(why) = made {
                    let kind = Kind {
                        backend,
                        mode,
                        ipv6,
                    };
                    lacking.0.push((kind, why));
                    break; // with IPv6 it is the same
                }
            }
        }
    }
    Ok(lacking)
}

fn by_iptables(
    tools: &Result<Tools, Explanation>,
    plan: &Plan,
    deadline: Deadline,
) -> Result<(), Explanation> {
    let tools = tools.as_ref().map_err(Clone::clone)?;
    if !tools.serve(plan.families.captured()) {
        return Err(Reason::IptablesMissing.into());
    }
    apply_and_read_back(
        |netns| Iptables::open(tools, None, netns, deadline),
        plan,
        deadline,
    )
}

/// What a pod gets that opts in.
fn plan(mode: InterceptionMode, ipv6: bool) -> Result<Plan, Explanation> {
    let (mut pod, mut profile) = (Pod::default(), Profile::built_in());
    let (namespace, metadata) = (Namespace::default(), &mut pod.metadata);
    (metadata.namespace, metadata.name) = ("self-test".into(), "self-test".into());
    metadata.labels.insert(label::INJECT.into(), "true".into());
    let annotations = &mut metadata.annotations;
    annotations.insert(annotation::INTERCEPTION_MODE.into(), mode.as_str().into());
    if ipv6 {
        profile.spec.redirect.ip_families = IpFamilies::All;
    }
    let pod = assume_injected(&pod, &namespace, &profile).unwrap_or(pod);
    let decided = decide(&pod, &namespace, Ok(&profile), &Attachment::default());
    match decided.decision {
        Decision::Redirect(intent) => Plan::new(&intent, &PodNetwork::of_eth0(true, ipv6)),
        Decision::Refuse(why) | Decision::Skip(why) => {
            Err(Reason::Internal
                .because(format!("a pod that opts in would not be redirected: {why}")))
        }
    }
}

/// Makes it, and reads it back.
fn apply_and_read_back<B: Backend>(
    open: impl FnOnce(&Netns) -> Result<B, KernelError> + Send,
    plan: &Plan,
    deadline: Deadline,
) -> Result<(), Explanation> {
    let differences = run_in_scratch(|netns: &Netns| {
        Wiring::open(deadline)?.switch_on("lo")?;
        let network = Network::open(deadline)?;
        let mut live = Live::new(open(netns)?, &network, plan);
        let found = live.read()?;
        live.apply(&found)?;
        Ok::<_, KernelError>(live.read()?.into_differences())
    })?;
    let different = summary(&differences);
    different.map_or(Ok(()), |what| {
        Err(Reason::KernelRefused.because(format!("the rules are not as they were made: {what}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_opts_in_has_a_plan_in_each_mode() {
        for mode in InterceptionMode::ALL {
            for ipv6 in [false, true] {
                let plan = plan(mode, ipv6).unwrap();
                assert_eq!(plan.intent.mode, mode);
            }
        }
    }
}
