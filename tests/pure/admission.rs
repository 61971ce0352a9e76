//! Policies that judge by a profile's mode are there in two editions: a policy cannot tell by which binding it was called.

use crate::kept::is_update;

#[test]
fn policies_that_warn_are_those_that_deny() {
    for name in ["pods", "enforced", "overrides"] {
        let path = |folder: &str| {
            format!(
                "{}/deploy/admission/{folder}/{name}.yaml",
                env!("CARGO_MANIFEST_DIR")
            )
        };
        let mut text = std::fs::read_to_string(path("modes")).unwrap();
        for (denies, warns) in [
            (
                format!("metadata: {{name: mesh-optin-{name}}}\n"),
                format!("metadata: {{name: mesh-optin-{name}-warn}}\n"),
            ),
            (
                "{name: action, expression: \"'Deny'\"} # 'Warn' in those of ../warn\n".to_owned(),
                "{name: action, expression: \"'Warn'\"}\n".to_owned(),
            ),
        ] {
            assert_eq!(text.matches(&denies).count(), 1, "{name}: {denies}");
            text = text.replace(&denies, &warns);
        }
        text.insert_str(0, "# Written from ../modes by UPDATE=1 tests/run fast\n");
        if is_update() {
            std::fs::write(path("warn"), &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(path("warn")).unwrap_or_default() == text,
            "deploy/admission/warn/{name}.yaml is not what ../modes says: write it with UPDATE=1 tests/run fast"
        );
    }
}
