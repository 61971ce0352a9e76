//! A control group with a limit of memory, as Multus's daemon has one.

use std::path::{Path, PathBuf};

pub struct Limited {
    path: PathBuf,
    version2: bool,
}

impl Limited {
    pub fn new(bytes: u64) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let version2 = root.join("cgroup.controllers").exists();
        let name = format!("mesh-optin-test-{}", std::process::id());
        let path = if version2 {
            root.join(name)
        } else {
            root.join("memory").join(name)
        };
        if version2 {
            std::fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        std::fs::create_dir(&path).unwrap();
        let limited = Self { path, version2 };
        std::fs::write(
            limited.file("memory.max", "memory.limit_in_bytes"),
            bytes.to_string(),
        )
        .unwrap();
        limited
    }

    /// Where a process writes its pid to be in it.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// What is charged now.
    pub fn used(&self) -> u64 {
        std::fs::read_to_string(self.file("memory.current", "memory.usage_in_bytes"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// How many processes the kernel has killed because there was no more.
    pub fn killed(&self) -> u64 {
        let text =
            std::fs::read_to_string(self.file("memory.events", "memory.oom_control")).unwrap();
        text.lines()
            .find_map(|l| l.strip_prefix("oom_kill "))
            .unwrap()
            .parse()
            .unwrap()
    }

    fn file(&self, of_2: &str, of_1: &str) -> PathBuf {
        self.path.join(if self.version2 { of_2 } else { of_1 })
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50)); // its processes end
        }
    }
}
