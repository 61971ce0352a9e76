//! Every word that people, files and metrics choose from is read as it is written.

use std::{fmt::Display, str::FromStr};

use mesh_optin::{
    cni::{CniCommand, Version},
    mesh::{InterceptionMode, OtherProxy, Source},
    node::{LogLevel, ProfileKind, SourceKind},
    plan::Form,
    profile::{
        AttachmentsMode, BackendPolicy, DefaultProfile, DriftPolicy, EnforcedMode, EnrollmentMode,
        Interfaces, IpFamilies, Key, MissingSidecar, NotAllowed, Placement, PreemptedPolicy,
        UnattachedPods, UnenrolledSidecar,
    },
    reason::Reason,
    redirection::Verdict,
};
use serde::{Serialize, de::DeserializeOwned};

/// As text and as JSON; and one word is shown, so that a changed one is seen.
fn round_trip<T>(all: &[T], shown: &str)
where
    T: Copy
        + PartialEq
        + std::fmt::Debug
        + Display
        + FromStr<Err = String>
        + Serialize
        + DeserializeOwned,
{
    let words: Vec<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(words.join(" "), shown);
    for (value, word) in all.iter().zip(words) {
        assert_eq!(word.parse().as_ref(), Ok(value));
        let json = serde_json::to_string(value).unwrap();
        assert_eq!(json, format!("{word:?}"));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), *value);
        let error = format!("{word}x").parse::<T>().unwrap_err();
        assert!(
            error.contains(&format!("{word}x")) && error.contains("use one of"),
            "{error}"
        );
    }
}

#[test]
fn words_are_read_as_they_are_written() {
    round_trip(&EnrollmentMode::ALL, "Istio Maistra Either Selector");
    round_trip(&UnenrolledSidecar::ALL, "Refuse Redirect");
    round_trip(&MissingSidecar::ALL, "Refuse Warn");
    round_trip(&NotAllowed::ALL, "Refuse Ignore");
    round_trip(&PreemptedPolicy::ALL, "Refuse Warn");
    round_trip(&AttachmentsMode::ALL, "Deny");
    round_trip(&UnattachedPods::ALL, "Allow Warn Deny");
    round_trip(&EnforcedMode::ALL, "Warn Deny");
    round_trip(&Placement::ALL, "Shared PerNamespace None");
    round_trip(&DriftPolicy::ALL, "Report Repair");
    round_trip(&Interfaces::ALL, "All Primary");
    round_trip(&IpFamilies::ALL, "Proxy All");
    round_trip(&BackendPolicy::ALL, "Auto Nftables Iptables");
    round_trip(&InterceptionMode::ALL, "REDIRECT TPROXY");
    round_trip(
        &Source::ALL,
        "pod namespace RuntimeClass NAD profile built in",
    );
    round_trip(&OtherProxy::ALL, "router waypoint ztunnel");
    round_trip(&ProfileKind::ALL, "served unserved gone");
    round_trip(&SourceKind::ALL, "agent api manifests");
    round_trip(&DefaultProfile::ALL, "Auto BuiltIn Required");
    round_trip(&LogLevel::ALL, "error warn info debug");
    round_trip(
        &Verdict::ALL,
        "consistent outdated drifted preempted bypassing",
    );
    round_trip(&Form::ALL, "nftables iptables-legacy iptables-nft iptables");
    round_trip(&CniCommand::ALL, "ADD DEL CHECK STATUS GC VERSION");
    round_trip(&Version::ALL, "0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0");
    round_trip(
        &Key::ALL,
        "includeInboundPorts excludeInboundPorts includeOutboundIPRanges excludeOutboundIPRanges includeOutboundPorts \
         excludeOutboundPorts excludeInterfaces rerouteVirtualInterfaces",
    );
    assert_eq!(
        "kubevirtInterfaces".parse(),
        Ok(Key::RerouteVirtualInterfaces)
    );
    for reason in Reason::ALL {
        assert_eq!(reason.to_string().parse(), Ok(*reason));
    }
}
