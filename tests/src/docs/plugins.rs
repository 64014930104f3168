//! A page a plugin: what its source says of it, its options, and an example that runs.

use gateway_core::plugin::{Class, Spec};
use serde_json::Value;

use super::config::Reference;
use super::{Page, module_docs, read, repository, table};

pub(super) fn pages() -> Vec<Page> {
    let specs = gateway_plugins::all();
    let mut pages = vec![index(&specs)];
    pages.extend(specs.iter().map(page));
    pages
}

fn index(specs: &[Spec]) -> Page {
    let rows = specs.iter().map(|spec| {
        let docs = module_docs(&source(spec));
        let first = docs.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let link = format!("[`{}`]({}.md)", spec.kind, spec.kind);
        vec![link, format!("{:?}", spec.class).to_lowercase(), first]
    });
    let text = format!(
        "# Plugins\n\nOrder is the order of listing: gateway-wide, then listener, then group, then route; responses \
         pass in reverse. A route's plugin takes the place of an outer one of the same kind and name; \
         `disable: [name]` removes one. `gateway routes` prints each route's chain.\n\n{}",
        table(&["kind", "class", "what it does"], rows)
    );
    Page::generated("reference/plugins/index.md", "gateway-plugins/src/lib.rs", &text)
}

fn page(spec: &Spec) -> Page {
    let schema = Value::from(spec.schema());
    let example = read(&format!("conf/examples/{}.yaml", spec.kind));
    let text = format!(
        "# {}\n\n{}\n\n{}\n\n## Options\n\n{}\n\n## An example that runs\n\n```yaml\n{}\n```",
        spec.kind,
        module_docs(&source(spec)),
        failure(spec.class),
        Reference::new(&schema).sections("", &schema),
        example.trim()
    );
    Page::generated(&format!("reference/plugins/{}.md", spec.kind), &source(spec), &text)
}

fn source(spec: &Spec) -> String {
    let module = spec.kind.replace('-', "_");
    let [file, folder] = ["", "/mod"].map(|part| format!("gateway-plugins/src/{module}{part}.rs"));
    if repository().join(&file).exists() { file } else { folder }
}

fn failure(class: Class) -> &'static str {
    match class {
        Class::Security => {
            "Class security: should it fail, the request is refused; it is never skipped."
        }
        Class::Traffic => {
            "Class traffic: should it fail, the request is refused, unless `on_error: skip`."
        }
        Class::Transform => {
            "Class transform: should it fail, the request is refused, unless `on_error: skip`."
        }
        Class::Observe => {
            "Class observe: should it fail, it is skipped, unless `on_error: refuse`."
        }
    }
}
