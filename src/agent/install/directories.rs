//! Checks that Multus looks for programs and configurations where the agent installs them.

use std::path::{Path, PathBuf};

use crate::{
    agent::{args::Install, conditions::NodeFinding},
    multus::{Mode, Multus, RUNTIME_DIRECTORIES, is_same},
    reason::Reason,
};

/// Whether Multus looks where we install. `was_called`: it has called the program since we installed it.
pub(in crate::agent) fn verify(
    found: Option<&Multus>,
    ours: &Install,
    was_called: bool,
) -> NodeFinding {
    let Some(multus) = found else {
        return if was_called {
            NodeFinding::Holds
        } else {
            let usual = || RUNTIME_DIRECTORIES.join(", ");
            let directory = ours.runtime_conf_dir.as_ref();
            let directories = directory.map_or_else(usual, |d| d.display().to_string());
            NodeFinding::Unverified(format!(
                "no configuration of Multus is the first file of {directories}"
            ))
        };
    };
    let differs = |theirs: &Option<PathBuf>, ours: &Path| {
        let theirs = theirs.clone()?;
        (!is_same(&theirs, ours)).then_some(theirs)
    };
    let wrong = |flag: &str, theirs: &Path, ours: &Path| {
        let cause = format!(
            "Multus uses {}, says {}, and the agent {}",
            theirs.display(),
            multus.file.display(),
            ours.display()
        );
        let remedy = format!("start the agent with {flag}={}", theirs.display());
        Reason::NodeConfigInvalid.because(cause).remedy(remedy)
    };
    let (bin, conf, cache) = (&ours.cni_bin_dir, &ours.multus_conf_dir, ours.cache_dir());
    if let Some(theirs) = differs(&multus.conf_dir, conf) {
        return NodeFinding::Wrong(wrong("--multus-conf-dir", &theirs, conf));
    }
    // it also looks where the runtime does: what it has called it finds
    if let Some(theirs) = differs(&multus.bin_dir, bin).filter(|_| !was_called) {
        return NodeFinding::Wrong(wrong("--cni-bin-dir", &theirs, bin));
    }
    // of use at the end only
    if let Some(theirs) = differs(&multus.cache_dir, cache) {
        return NodeFinding::Limited(wrong("--multus-cache-dir", &theirs, cache).to_string());
    }
    if multus.mode == Mode::Thick && !was_called {
        return NodeFinding::Unverified(
            "Multus runs as a daemon, whose configuration is not on the node, and has not called the program yet".into(),
        );
    }
    NodeFinding::Holds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multus::found;

    #[test]
    fn a_directory_that_multus_does_not_use_is_reported_with_the_flag_to_set() {
        let ours = Install {
            cni_bin_dir: "/opt/cni/bin".into(),
            ..Install::default()
        };
        let thin = |bin: &str| {
            let text = format!(r#"{{"type":"multus","binDir":"{bin}"}}"#);
            found(&[("00-multus.conf", &text)])
        };
        let verify = |multus: Option<Multus>, called| super::verify(multus.as_ref(), &ours, called);
        assert_eq!(verify(thin("/opt/cni/bin"), false), NodeFinding::Holds);
        assert_eq!(
            verify(thin("/var/lib/rancher/bin"), true),
            NodeFinding::Holds
        );
        let NodeFinding::Wrong(wrong) = verify(thin("/var/lib/rancher/bin"), false) else {
            panic!("it is not reported");
        };
        assert_eq!(
            wrong.remedy.as_deref(),
            Some("start the agent with --cni-bin-dir=/var/lib/rancher/bin")
        );
        let with = |key: &str| {
            let text = format!(r#"{{"type":"multus","{key}":"/elsewhere"}}"#);
            verify(found(&[("00-multus.conf", &text)]), true)
        };
        let NodeFinding::Wrong(wrong) = with("confDir") else {
            panic!("configurations that Multus does not find are wrong");
        };
        assert!(wrong.to_string().ends_with("--multus-conf-dir=/elsewhere"));
        let NodeFinding::Limited(what) = with("cniDir") else {
            panic!("a cache is of use at the end only");
        };
        assert!(what.ends_with("--multus-cache-dir=/elsewhere"));
        let thick = || found(&[("00-multus.conf", r#"{"type":"multus-shim"}"#)]);
        assert!(matches!(verify(thick(), false), NodeFinding::Unverified(_)));
        assert_eq!(verify(thick(), true), NodeFinding::Holds);
        assert!(matches!(verify(None, false), NodeFinding::Unverified(_)));
    }
}
