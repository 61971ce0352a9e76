//! The rules, addresses and routes that plans are lowered to, as files named by [`FORMAT`]. Running pods are compared with them: a rule
//! that changes under the same format makes each of them `Drifted` after an upgrade, and `drift: Repair` rewrites it.

mod plans;

use mesh_optin::plan::FORMAT;

pub(crate) use self::plans::EVERY_SETTING;
use self::plans::plans;
use crate::kept::{data_path, digest, first_difference, is_update};

/// Each format's file and its digest. A line is added with a format, and never changed.
const DIGESTS: &[(u32, &str)] = &[(1, "d7693993ca1ac901"), (2, "1fc2c5580ee47527")];

/// What they are lowered to.
fn lowered() -> String {
    let mut text = String::new();
    for (name, plan) in plans() {
        text += &format!("== {name}: nftables\n{}", plan.nftables());
        for family in plan.families.captured() {
            text += &format!("== {name}: iptables, {family}\n{}", plan.iptables(family));
        }
        text += &format!("== {name}: routing\n{}", plan.routing());
    }
    text
}

#[test]
fn plans_are_lowered_as_their_format_says() {
    let (now, name) = (lowered(), format!("lowered/{FORMAT}.txt"));
    let path = data_path(&name);
    if is_update() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let Ok(kept) = std::fs::read_to_string(&path) else {
        panic!("there is no tests/data/{name} yet: write it with UPDATE=1 and add its digest");
    };
    assert!(
        kept == now,
        "the rules have changed under plan::FORMAT {FORMAT}, so pods that run would become Drifted: raise FORMAT, and \
         write the new format's file with UPDATE=1; tests/data/{name} stays as it is. The first difference: {}",
        first_difference(&kept, &now)
    );
}

#[test]
fn files_of_formats_stay_as_they_were_written() {
    for (format, known) in DIGESTS {
        let name = format!("tests/data/lowered/{format}.txt");
        let kept = std::fs::read_to_string(data_path(&format!("lowered/{format}.txt")));
        let found = digest(&kept.unwrap_or_else(|e| panic!("{name}: {e}")));
        assert_eq!(
            found, *known,
            "{name} is what an earlier program made of plans, and has been edited: restore it, and raise plan::FORMAT instead"
        );
    }
    assert_eq!(
        DIGESTS.last().map(|(format, _)| *format),
        Some(FORMAT),
        "DIGESTS needs a line for plan::FORMAT"
    );
}
