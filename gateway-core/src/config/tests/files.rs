//! Documents of several files.

use std::fs;

use super::*;
use crate::config::load;

const MAIN: &str = "\
version: 1
include: ['routes.d/*.yaml']
listeners: [{name: public, address: 0.0.0.0:8080}]
upstreams: [{name: users, endpoints: [10.0.0.1:80]}]
routes: [{name: main, upstream: users}]
";

/// A folder of files; faults are given with the folder's own name left out.
struct Folder(tempfile::TempDir);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("routes.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn load(&self) -> Result<Loaded, String> {
        let path = self.0.path().join("gateway.yaml");
        load(&path, &Catalogue, &options()).map_err(|faults| {
            faults.to_string().replace(&format!("{}/", self.0.path().display()), "")
        })
    }
}

#[test]
fn included_files_add_to_the_lists_in_sorted_order() {
    let folder = Folder::of(&[
        ("gateway.yaml", MAIN),
        ("routes.d/b.yaml", "routes: [{name: b, match: {path: /b}, reply: {}}]"),
        (
            "routes.d/a.yaml",
            "version: 1\nx-note: hi\nplugins: [{kind: jwt, options: {issuer: i, audience: [], \
             keys: {from: file, path: k}}}]\nroutes: [{name: a, match: {path: /a}, upstream: users}]",
        ),
        ("routes.d/empty.yaml", "# nothing yet\n"),
        ("routes.d/notes.txt", "{"),
    ]);

    let loaded = folder.load().unwrap();

    let names: Vec<&str> = loaded.config.routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["main", "a", "b"]);
    let files: Vec<_> = loaded.files.iter().map(|f| f.file_name().unwrap()).collect();
    assert_eq!(files, ["gateway.yaml", "a.yaml", "b.yaml", "empty.yaml"]);
    let key = loaded.config.plugins[0].options["keys"]["path"].as_str().unwrap().to_owned();
    assert!(key.ends_with("/routes.d/k"), "{key}");
}

#[test]
fn faults_of_all_files_are_reported_together() {
    let folder = Folder::of(&[
        ("gateway.yaml", &MAIN.replace("upstream: users}", "upstream: users, zzz: 1}")),
        ("routes.d/a.yaml", "routes: [{nmae: a, reply: {}}]"),
        ("routes.d/b.yaml", "routes: [\n"),
        ("routes.d/c.yaml", "server: {}\nroutes: [{name: c, reply: {echo: 1}}]"),
        ("routes.d/d.yaml", "version: 2"),
    ]);

    assert_eq!(
        folder.load().unwrap_err(),
        "\
gateway.yaml:5:40  routes[0].zzz: unknown key `zzz`; there is `disable`, `group`, `match`, `mirror`, `name`, `plugins`, `priority`, `redirect`, `reply`, `rewrite`, `split`, `timeouts`, `upstream`
routes.d/a.yaml:1:10  routes[1]: missing required key `name`
routes.d/a.yaml:1:11  routes[1].nmae: unknown key `nmae`, did you mean `name`?
routes.d/b.yaml:2:1  not YAML: did not find expected node content
routes.d/c.yaml:1:1  server: only the main file can say this; an included file adds to lists
routes.d/c.yaml:2:34  routes[2].reply.echo: expected `true` or `false`, got the number 1
routes.d/d.yaml:1:10  version: this build reads version 1; the file is written for version 2"
    );
}

#[test]
fn same_name_in_two_files_is_a_fault_that_names_both() {
    let folder = Folder::of(&[
        ("gateway.yaml", MAIN),
        ("routes.d/a.yaml", "routes:\n  - {name: x, match: {path: /a}, reply: {}}"),
        ("routes.d/b.yaml", "routes: [{name: x, match: {path: /b}, upstream: user}]"),
    ]);

    assert_eq!(
        folder.load().unwrap_err(),
        "\
routes.d/b.yaml:1:17  routes[2].name: route `x` is defined at routes.d/a.yaml:2:5 already
routes.d/b.yaml:1:49  routes[2].upstream: there is no upstream `user`, did you mean `users`?"
    );
}

#[test]
fn included_file_that_is_not_there_is_a_fault() {
    let folder = Folder::of(&[("gateway.yaml", &MAIN.replace("*.yaml", "users.yaml"))]);

    assert_eq!(
        folder.load().unwrap_err(),
        "gateway.yaml:2:11  include[0]: there is no file `routes.d/users.yaml`"
    );
}

#[test]
fn pattern_that_matches_the_main_file_leaves_it_out() {
    let folder = Folder::of(&[("gateway.yaml", &MAIN.replace("routes.d/*", "*"))]);

    assert!(folder.load().is_ok());
}

#[test]
fn file_that_cannot_be_read_is_a_fault() {
    let folder = Folder::of(&[]);
    assert_eq!(
        folder.load().unwrap_err(),
        "gateway.yaml  cannot be read: No such file or directory (os error 2)"
    );

    fs::write(folder.0.path().join("gateway.yaml"), b"version: 1\nx: \xff").unwrap();
    assert_eq!(folder.load().unwrap_err(), "gateway.yaml:2:1  is not UTF-8 from this line on");
}

#[test]
fn file_that_is_too_large_is_refused() {
    let folder = Folder::of(&[]);
    let file = fs::File::create(folder.0.path().join("gateway.yaml")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();

    assert_eq!(folder.load().unwrap_err(), "gateway.yaml  is larger than 64MiB");
}
