//! Which files of a node are believed.

use std::os::unix::fs::{PermissionsExt, symlink};

use mesh_optin::node::{Privacy, list, read};

#[test]
fn only_files_that_root_alone_can_write_are_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = dir.path().join("a.yaml");
    assert_eq!(read(&path, Privacy::Private).unwrap(), None);
    std::fs::write(&path, "x").unwrap();
    assert_eq!(read(&path, Privacy::Private).unwrap().as_deref(), Some("x"));
    let link = dir.path().join("link.yaml");
    symlink(&path, &link).unwrap();
    assert!(read(&link, Privacy::Public).is_err(), "a link");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
    assert!(
        read(&path, Privacy::Public)
            .unwrap_err()
            .cause
            .contains("mode 620")
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(
        read(&path, Privacy::Public).unwrap().is_some() && read(&path, Privacy::Private).is_err()
    );
    std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
    assert!(
        read(&path, Privacy::Public)
            .unwrap_err()
            .cause
            .contains("uid 1000")
    );
    assert_eq!(list(dir.path(), &["yaml"]).unwrap().len(), 2);
    assert_eq!(list(&dir.path().join("none"), &["yaml"]).unwrap().len(), 0);
}
