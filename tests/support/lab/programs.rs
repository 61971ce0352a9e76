//! Programs on the node.

use super::*;

impl Node {
    /// Installs a program of the machine, or a folder of them. It is mounted: a copy may for a moment be open for writing in a child that another
    /// test has just started, and is then "Text file busy".
    pub fn install(&self, source: &str, target: &str) {
        let target = self.path(target);
        if target.exists() {
            return;
        }
        if Path::new(source).is_dir() {
            std::fs::create_dir_all(&target).unwrap();
        } else {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::write(&target, "").unwrap();
        }
        mount_(source, target.to_str().unwrap(), "", MsFlags::MS_BIND);
    }

    /// Installs a script, written by a process of its own for the same reason.
    pub fn install_script(&self, target: &Path, text: &str) {
        self.install("/usr/bin/dash", "dash");
        let script = format!("#!/dash\n{text}\n");
        let target = target.to_str().unwrap();
        run("install", &["-m", "755", "/dev/stdin", target], &script);
    }

    /// The machine's libraries, for its programs.
    pub fn install_libraries(&self) {
        if self.path("lib").exists() {
            return;
        }
        for libraries in ["usr/lib", "usr/lib64"] {
            self.install(&format!("/{libraries}"), libraries);
        }
        for directory in ["lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{directory}"), self.path(directory)).unwrap();
        }
    }

    /// Installs iptables of these variants (`nft`, `legacy`), and no other.
    pub fn install_iptables(&self, variants: &[&str]) {
        self.install_libraries();
        for variant in variants {
            let program = format!("xtables-{variant}-multi");
            self.install(
                &format!("/usr/sbin/{program}"),
                &format!("usr/sbin/{program}"),
            );
            for (prefix, verb) in [
                ("iptables", "save"),
                ("iptables", "restore"),
                ("ip6tables", "save"),
                ("ip6tables", "restore"),
            ] {
                let link = self
                    .path("usr/sbin")
                    .join(format!("{prefix}-{variant}-{verb}"));
                std::os::unix::fs::symlink(&program, link).unwrap();
            }
        }
    }

    /// Puts a released version of the program in its place while `work` runs; tests/run has built it.
    pub fn with_version<T>(&self, version: &str, work: impl FnOnce() -> T) -> T {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/versions");
        let older = run(script, &["path", version], "");
        self.with_program(older.trim(), work)
    }

    /// The same with the optimized program: what is counted of it is what a release does. tests/run has built it.
    pub fn optimized<T>(&self, work: impl FnOnce() -> T) -> T {
        let debug = Path::new(env!("CARGO_BIN_EXE_mesh-optin"));
        let program = debug
            .parent()
            .unwrap()
            .with_file_name("ci")
            .join("mesh-optin");
        assert!(
            program.exists(),
            "build it as tests/run does: cargo build --profile ci"
        );
        self.with_program(program.to_str().unwrap(), work)
    }

    fn with_program<T>(&self, program: &str, work: impl FnOnce() -> T) -> T {
        let place = self.path("mesh-optin");
        mount_(program, place.to_str().unwrap(), "", MsFlags::MS_BIND);
        let made = work();
        umount2(&place, MntFlags::MNT_DETACH).unwrap();
        made
    }

    /// The program in its root, with nothing in the environment.
    pub fn program(&self, args: &[&str]) -> Command {
        self.command("/mesh-optin", args)
    }

    /// The same of any program in the node's root.
    #[allow(
        clippy::disallowed_methods,
        reason = "a runtime calls plugins as processes"
    )]
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .arg(&self.root)
            .arg(program)
            .args(args)
            .env_clear()
            .stdin(Stdio::null());
        command
    }
}
