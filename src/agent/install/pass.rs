//! One pass over everything that the agent installs on its node.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use tracing::{debug, info};

use super::super::{
    args::Install,
    metrics::Metrics,
    profiles::{Profiles, Ungoverned},
};
use super::{InstallState, program, remove_programs, write};
use crate::{
    multus::{Multus, cache, net_d},
    node::{Installed, NodeSettings, paths, state},
    profile::VERSION,
    reason::{Explanation, Reason},
};

/// One pass, and what went wrong in it.
pub(super) struct Pass<'a> {
    pub(super) args: &'a Install,
    pub(super) metrics: &'a Metrics,
    pub(super) wrong: Vec<Explanation>,
}

impl Pass<'_> {
    pub(super) fn all(mut self, known: &mut InstallState, profiles: &Profiles) -> Vec<Explanation> {
        if let Err(error) = self.try_all(known, profiles) {
            self.wrong.push(error);
        }
        self.wrong
    }

    fn try_all(
        &mut self,
        known: &mut InstallState,
        profiles: &Profiles,
    ) -> Result<(), Explanation> {
        let before = Installed::load().unwrap_or_default().unwrap_or_default();
        if before.version != VERSION && !before.version.is_empty() {
            info!(
                "version {} was installed: now it is {VERSION}",
                before.version
            );
        }
        let args = self.args;
        let bin = &args.cni_bin_dir;
        let conf_path = |name: &String| net_d::path(&args.multus_conf_dir, name);
        let main = bin.join(program::NAME);
        // while the profiles are not known, nothing is known of the configurations that are no longer needed
        let (of_profiles, are_all_known) = match profiles.attachment_names() {
            Ok(names) => names,
            Err(Ungoverned::NotYet) => Default::default(),
            Err(Ungoverned::Refused(why)) => {
                self.wrong.push(why);
                Default::default()
            }
        };
        let names: BTreeSet<_> = of_profiles
            .into_iter()
            .chain(self.args.attachments.iter().cloned())
            .collect();
        let (types, unread) = cache::types(
            self.args.cache_dir(),
            Multus::find(self.args.runtime_conf_dir.as_deref()).as_ref(),
        );
        let old: BTreeSet<PathBuf> = cache::old_names(&types)
            .map(|name| bin.join(name))
            .collect();
        let digest = known.program.digest()?;
        let mut installed = before.clone();
        (installed.version, installed.cache, installed.uninstalled) =
            (VERSION.into(), self.args.cache_dir().into(), false);
        installed.confs.extend(names.iter().map(conf_path));
        installed.programs.insert(main.clone(), digest.clone());
        for name in &old {
            // the digest of what is there counts until that is replaced
            let recorded = installed.programs.entry(name.clone());
            recorded.or_insert_with(|| digest.clone());
        }
        self.settings()?;
        // recorded before it is written, so that whatever was installed can be removed
        write(&installed, &before)?;
        let recorded = installed.clone();

        program::sweep(bin);
        let put = known.program.ensure(&main);
        self.report("program", &main, put);
        for name in &old {
            match program::also(&main, name, before.programs.get(name)) {
                Ok(None) => drop(installed.programs.remove(name)), // foreign
                Ok(Some(is_new)) => {
                    installed.programs.insert(name.clone(), digest.clone());
                    self.report("program", name, Ok(is_new));
                }
                Err(error) => self.report("program", name, Err(error)),
            }
        }
        match unread {
            None => remove_programs(&mut installed, &main, &old),
            Some(why) => {
                debug!("which plugins sandboxes still need cannot be told, none is removed: {why}")
            }
        }
        for name in &names {
            let takes_over = self.args.take_over.contains(name);
            let put = known
                .confs
                .ensure(&self.args.multus_conf_dir, name, takes_over);
            self.report("conf", &conf_path(name), put);
        }
        if are_all_known {
            installed.confs.retain(|path| {
                let stays = names.iter().any(|name| conf_path(name) == *path);
                if !stays && let Err(error) = known.confs.remove(path) {
                    self.wrong.push(error);
                    return true;
                }
                stays
            });
        }
        write(&installed, &recorded)
    }

    /// The settings of the node that the agent was started with; none is no file.
    fn settings(&self) -> Result<(), Explanation> {
        let (path, settings) = (Path::new(paths::SETTINGS), self.args.settings.of_node()?);
        if settings == NodeSettings::default() {
            std::fs::remove_file(path).ok();
            return Ok(());
        }
        let internal = |e: serde_json::Error| Reason::Internal.because(e.to_string());
        let mut text = serde_json::to_vec(&settings).map_err(internal)?;
        text.push(b'\n');
        if std::fs::read(path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        state::private(Path::new(paths::LIB))?;
        info!(path = paths::SETTINGS, "installed");
        state::replace(path, &text, 0o644)
    }

    fn report(&mut self, what: &'static str, path: &Path, result: Result<bool, Explanation>) {
        match result {
            Ok(false) => {}
            Ok(true) => {
                info!(path = %path.display(), "installed");
                self.metrics.count_install(what, true);
            }
            Err(error) => {
                self.metrics.count_install(what, false);
                self.wrong.push(error);
            }
        }
    }
}
