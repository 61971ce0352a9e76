use super::{InterceptionMode, pod::annotation::INTERCEPTION_MODE};
use crate::reason::{Explanation, Reason, quote};

/// The mode that the pod sets, which must be the one that its sidecar was built for: a `NONE` that was added later is a contradiction, not a skip.
pub(super) fn interception_mode(
    said: Option<&str>,
    built_for: Option<&str>,
) -> Result<InterceptionMode, Explanation> {
    let invalid = |cause| Reason::InvalidAnnotation.because(cause);
    let mode = said.unwrap_or("REDIRECT");
    if let Some(built) = built_for.filter(|built| *built != mode) {
        let said = said.map_or_else(|| "absent".into(), quote);
        return Err(invalid(format!(
            "annotation {INTERCEPTION_MODE} is {said}, but the sidecar was built for {}",
            quote(built)
        )));
    }
    match mode {
        "REDIRECT" => Ok(InterceptionMode::Redirect),
        "TPROXY" => Ok(InterceptionMode::Tproxy),
        other => Err(invalid(format!(
            "annotation {INTERCEPTION_MODE}: {} is not REDIRECT, TPROXY or NONE",
            quote(other)
        ))),
    }
}
