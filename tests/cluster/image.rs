//! The image without a container engine: what it holds, and that it is the same whoever makes it.

use serde_json::{Value, json};

use crate::support::{cluster::script, run};

#[test]
fn two_images_of_one_program_are_the_same_to_the_byte_and_hold_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let name = "registry.example.com/mesh-optin:test";
    let images = ["one", "two"].map(|folder| {
        std::fs::create_dir(path(folder)).unwrap();
        let program = path(&format!("{folder}/mesh-optin"));
        std::fs::copy(env!("CARGO_BIN_EXE_mesh-optin"), &program).unwrap();
        if folder == "two" {
            run("touch", &["--date=2001-01-01", &program], "");
            run("chmod", &["0700", &program], "");
        }
        let image = path(&format!("{folder}/image.tar"));
        run(&script("image"), &[&image, name, &program], "");
        run("sha256sum", &[&image], "")
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    });
    assert_eq!(images[0], images[1]);

    run(
        "tar",
        &[
            "-xf",
            &path("one/image.tar"),
            "-C",
            directory.path().to_str().unwrap(),
        ],
        "",
    );
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
    };
    let manifest = read("manifest.json");
    assert_eq!(manifest[0]["RepoTags"], json!([name]));
    let config = read(manifest[0]["Config"].as_str().unwrap());
    assert_eq!(config["config"]["Entrypoint"], json!(["/mesh-optin"]));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    assert_eq!(config["architecture"], architecture);
    let files = run("tar", &["-tf", &path("layer.tar")], "");
    let files: Vec<_> = files.lines().filter(|file| !file.ends_with('/')).collect();
    assert_eq!(files, ["mesh-optin"]);
}
