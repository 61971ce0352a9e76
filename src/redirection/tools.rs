use std::path::Path;

use crate::{
    cni::search_path,
    deadline::Deadline,
    kernel::Tools,
    node::{Privacy, paths, read, state},
    plan::Families,
    reason::Explanation,
};

/// The iptables programs of this node: found once, and again where one of them is gone or there is none for a family.
pub(super) fn tools(families: Families, deadline: Deadline) -> Result<Tools, Explanation> {
    let path = Path::new(paths::IPTABLES);
    let noted = read(path, Privacy::Private).ok().flatten();
    let noted = noted.and_then(|text| serde_json::from_str::<Tools>(&text).ok());
    if let Some(tools) = noted.filter(|t| t.serve(families.captured())) {
        return Ok(tools);
    }
    let tools = Tools::find(&search_path(), deadline)?;
    if tools.serve(families.captured()) {
        state::write(paths::RUN, path, &tools)?;
    }
    Ok(tools)
}
