//! A CNI call as Multus makes it.

use super::*;

impl Node {
    /// A CNI call as Multus makes it.
    pub fn call(&self, verb: &str, netns: &str, cni_args: &str, config: &str) -> Call {
        self.call_with(verb, &call_env(netns, cni_args), config.as_bytes())
    }

    /// A CNI call with exactly this environment.
    pub fn call_with(&self, verb: &str, env: &[(&str, &str)], stdin: &[u8]) -> Call {
        let mut command = self.program(&[]);
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", "/opt/cni/bin")
            .envs(env.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // a DEL reads nothing
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), stdin).ok();
        Call::of(child.wait_with_output().unwrap())
    }
}

/// The environment of a call for the first interface of a sandbox.
pub fn call_env<'a>(netns: &'a str, cni_args: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("CNI_NETNS", netns),
        ("CNI_ARGS", cni_args),
        ("CNI_CONTAINERID", "c0ffee"),
        ("CNI_IFNAME", "net1"),
    ]
}

/// What a call gave.
#[derive(Debug)]
pub struct Call {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Call {
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// The `msg` and `code` of a CNI error.
    pub fn error(&self) -> (String, u64) {
        assert_eq!(self.code, 1, "{self:?}");
        let error: serde_json::Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        // an independent reader of the protocol understands it as well
        let independent: rscni_types::types::ErrorResult =
            serde_json::from_str(&self.stdout).unwrap();
        assert_eq!(
            serde_json::to_value(independent).unwrap()["msg"],
            error["msg"]
        );
        (
            error["msg"].as_str().unwrap().to_owned(),
            error["code"].as_u64().unwrap(),
        )
    }

    /// The reason that the log gives.
    pub fn logged_reason(&self) -> String {
        let last = self
            .stderr
            .lines()
            .last()
            .unwrap_or_else(|| panic!("no log: {self:?}"));
        serde_json::from_str::<serde_json::Value>(last).unwrap()["reason"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}
