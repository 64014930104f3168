//! From a file to a config: read, walk, merge, type, check; every fault of a stage at once.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::Schema;
use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::check;
use super::digest::digest;
use super::document::{Document, LISTS};
use super::fault::{Fault, Faults};
use super::include::{self, Included};
use super::kept::KeptFile;
use super::path::ConfigPath;
use super::shape::{Found, ShapeId, Shapes, Walk, compile};
use super::{Config, schema, text};

/// Looks an environment variable up.
pub type Env = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What a load may see of the world besides files.
pub struct LoadOptions {
    /// What `${VAR}` stands for.
    pub env: Box<Env>,
}

impl Default for LoadOptions {
    /// Variables come from the environment of the process.
    fn default() -> Self {
        Self { env: Box::new(|name| std::env::var(name).ok()) }
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions").finish_non_exhaustive()
    }
}

/// The plugins a document may name.
pub trait PluginSchemas {
    /// Every kind there is.
    fn kinds(&self) -> Vec<&'static str>;

    /// What the kind's `options` look like; `None` for a kind there is not. Asked once a load.
    fn options_schema(&self, kind: &str) -> Option<Schema>;
}

/// A document that is right in itself; whether its plugins can be built is not known yet.
#[derive(Debug)]
pub struct Loaded {
    /// What it says, merged and with defaults.
    pub config: Config,
    /// Where it says so.
    pub document: Document,
    /// What is doubtful: a secret written as text, an upstream that no route uses.
    pub warnings: Vec<Fault>,
    /// SHA-256 in hexadecimal of what the document means; secrets count by reference only.
    pub digest: String,
    /// The files read, the main file first.
    pub files: Vec<PathBuf>,
    /// The folder that its main file is in.
    pub(super) base: PathBuf,
    /// Secrets written as text, each with the place of its file among those read and its path there.
    pub(crate) literals: Vec<(usize, ConfigPath)>,
    /// The files that it names and that nobody else follows.
    pub(crate) named: Vec<PathBuf>,
    /// What the checks of the typed document found. Only [`read`] leaves any: compiling adds what
    /// it finds itself, so that references and options are reported together.
    pub(crate) faults: Vec<Fault>,
}

impl Loaded {
    fn checked(mut self) -> Result<Self, Faults> {
        Faults::refuse_any(std::mem::take(&mut self.faults))?;
        Ok(self)
    }
}

/// Loads a document and all it includes.
///
/// # Errors
/// Every fault that is found, of all files together.
pub fn load(
    path: &Path,
    plugins: &dyn PluginSchemas,
    options: &LoadOptions,
) -> Result<Loaded, Faults> {
    read(path, plugins, options)?.checked()
}

/// As [`load`], but leaves what the checks found for the one who compiles it.
pub(crate) fn read(
    path: &Path,
    plugins: &dyn PluginSchemas,
    options: &LoadOptions,
) -> Result<Loaded, Faults> {
    let name = path.to_string_lossy();
    let text = text::read(&name, path)?;
    let base = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut loaded = Load::new(base, plugins, options)?.run(&name, text, Some(path), None)?;
    loaded.files.insert(0, path.to_owned());
    Ok(loaded)
}

/// As [`load`], of a text at hand; what it includes is read from `base_dir`.
///
/// # Errors
/// Every fault that is found, of all files together.
pub fn load_text(
    name: &str,
    base_dir: &Path,
    text: &str,
    plugins: &dyn PluginSchemas,
    options: &LoadOptions,
) -> Result<Loaded, Faults> {
    read_text(name, base_dir, text, plugins, options)?.checked()
}

/// As [`load_text`], but leaves what the checks found for the one who compiles it.
pub(crate) fn read_text(
    name: &str,
    base_dir: &Path,
    text: &str,
    plugins: &dyn PluginSchemas,
    options: &LoadOptions,
) -> Result<Loaded, Faults> {
    text::guard(name, text)?;
    Load::new(base_dir, plugins, options)?.run(name, text.to_owned(), None, None)
}

/// Whether the room that uses a file follows it itself.
fn is_followed(path: &ConfigPath) -> bool {
    let path = path.to_string();
    path.starts_with("reload.")
        || path.starts_with("server.")
        || path.starts_with("listeners[") && path.contains("].tls.")
        || path.contains(".discover.")
}

/// One load on its way.
pub(super) struct Load<'a> {
    base: PathBuf,
    options: &'a LoadOptions,
    shapes: Shapes,
    /// The shapes of the main file and of an included one.
    whole: ShapeId,
    fragment: ShapeId,
    document: Document,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    secrets: Vec<ConfigPath>,
    literals: Vec<(usize, ConfigPath)>,
    named: Vec<PathBuf>,
}

impl<'a> Load<'a> {
    pub(super) fn new(
        base: &Path,
        plugins: &dyn PluginSchemas,
        options: &'a LoadOptions,
    ) -> Result<Self, Fault> {
        let base = std::path::absolute(base)
            .map_err(|error| Fault::of_file(base.to_string_lossy(), error.to_string()))?;
        let of_kinds: Vec<(&'static str, Schema)> = plugins
            .kinds()
            .into_iter()
            .filter_map(|kind| Some((kind, plugins.options_schema(kind)?)))
            .collect();
        let (shapes, [whole, fragment]) =
            compile([&schema::document(), &schema::fragment()], &of_kinds);
        Ok(Self {
            base,
            options,
            shapes,
            whole,
            fragment,
            document: Document::default(),
            faults: Vec::new(),
            warnings: Vec::new(),
            secrets: Vec::new(),
            literals: Vec::new(),
            named: Vec::new(),
        })
    }

    /// `kept` are the files it includes, where they are at hand.
    pub(super) fn run(
        mut self,
        name: &str,
        text: String,
        main: Option<&Path>,
        kept: Option<Vec<KeptFile>>,
    ) -> Result<Loaded, Faults> {
        let file = self.document.add(name.to_owned(), text);
        let mut root = text::parse(&self.document, file)?;
        if let Some(fault) = self.wrong_version(file, &root) {
            return Err(fault.into());
        }
        self.document.note_items(file, &root);
        self.walk(file, &mut root, self.whole, &self.base.clone());
        let mut files = Vec::new();
        let included: Vec<_> = match kept {
            Some(kept) => {
                kept.into_iter().map(|file| (Included::at(file.path), Some(file.text))).collect()
            }
            None => {
                let found = self.includes(&root, Path::new(name), main);
                found.into_iter().map(|file| (file, None)).collect()
            }
        };
        for (included, text) in included {
            if let Some(fragment) = self.included(&included, text) {
                append(&mut root, fragment);
            }
            files.push(included.path);
        }
        Faults::refuse_any(std::mem::take(&mut self.faults))?;
        self.finish(&root, files)
    }

    fn wrong_version(&self, file: usize, root: &Value) -> Option<Fault> {
        let version = root.get("version").filter(|version| version.is_number())?;
        if version.as_u64() == Some(1) {
            return None;
        }
        let written = serde_json::to_string(version).unwrap_or_default();
        let at = ConfigPath::root().key("version");
        let what = format!("this build reads version 1; the file is written for version {written}");
        Some(self.document.fault_in(file, &at, false, what))
    }

    fn walk(&mut self, file: usize, value: &mut Value, shape: ShapeId, base: &Path) {
        let mut walk = Walk::new(&self.shapes, &*self.options.env, base);
        walk.root(value, shape);
        let Found { faults, literal_secrets, secrets, files } = walk.found;
        let files = files.into_iter().filter(|(path, _)| !is_followed(path));
        self.named.extend(files.map(|(_, file)| file));
        let document = &self.document;
        self.faults.extend(faults.into_iter().map(|finding| {
            document.fault_in(file, &finding.path, finding.at_key, finding.message)
        }));
        self.warnings.extend(literal_secrets.iter().map(|path| {
            let what = "a secret is written in the file; use `{env: NAME}` or `{file: path}`";
            document.fault_in(file, path, false, what)
        }));
        self.literals.extend(literal_secrets.into_iter().map(|path| (file, path)));
        self.secrets.extend(secrets.iter().map(|path| document.merged(file, path)));
    }

    /// The files that `include` names, each once, without the main file.
    fn includes(&mut self, root: &Value, name: &Path, main: Option<&Path>) -> Vec<Included> {
        let prefix = name.parent().unwrap_or(Path::new(""));
        let main = main.and_then(|path| path.canonicalize().ok());
        let mut seen: BTreeSet<PathBuf> = main.into_iter().collect();
        let mut files = Vec::new();
        let patterns = root.get("include").and_then(Value::as_sequence);
        for (index, pattern) in patterns.into_iter().flatten().enumerate() {
            let Some(pattern) = pattern.as_str() else {
                continue;
            };
            match include::expand(pattern, &self.base, prefix) {
                Ok(found) => files.extend(found.into_iter().filter(|file| {
                    let path = file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
                    seen.insert(path)
                })),
                Err(message) => {
                    let at = ConfigPath::root().key("include").index(index);
                    self.faults.push(self.document.fault_in(0, &at, false, message));
                }
            }
        }
        files
    }

    /// Reads and walks one included file.
    fn included(&mut self, included: &Included, text: Option<String>) -> Option<Value> {
        let read = || text::read(&included.name, &included.path);
        let text = match text.map_or_else(read, Ok) {
            Ok(text) => text,
            Err(fault) => {
                self.faults.push(fault);
                return None;
            }
        };
        let file = self.document.add(included.name.clone(), text);
        let mut value = match text::parse(&self.document, file) {
            Ok(Value::Null) => Value::Mapping(Mapping::new()),
            Ok(value) => value,
            Err(faults) => {
                self.faults.extend(faults);
                return None;
            }
        };
        if let Some(fault) = self.wrong_version(file, &value) {
            self.faults.push(fault);
            return None;
        }
        self.document.note_items(file, &value);
        self.refuse_main_keys(file, &mut value);
        let base = included.path.parent().unwrap_or(&self.base).to_owned();
        self.walk(file, &mut value, self.fragment, &base);
        Some(value)
    }

    /// What only the main file may say.
    fn refuse_main_keys(&mut self, file: usize, value: &mut Value) {
        let Some(mapping) = value.as_mapping_mut() else {
            return;
        };
        for key in ["include", "server", "admin", "access_log", "reload"] {
            if mapping.shift_remove(key).is_some() {
                let at = ConfigPath::root().key(key);
                let what = "only the main file can say this; an included file adds to lists";
                self.faults.push(self.document.fault_in(file, &at, true, what));
            }
        }
    }

    /// Types and checks the merged document.
    fn finish(mut self, root: &Value, files: Vec<PathBuf>) -> Result<Loaded, Faults> {
        let mut config = Config::deserialize(root).map_err(|_| self.typing_fault(root))?;
        let faults = check::check(&config, &self.document);
        config.secrets = self.secrets;
        self.warnings.extend(check::warnings(&config, &self.document));
        self.warnings.sort();
        Ok(Loaded {
            config,
            document: self.document,
            warnings: self.warnings,
            digest: digest(root),
            files,
            base: self.base,
            literals: self.literals,
            named: self.named,
            faults,
        })
    }

    /// Types the document once more, slower, to learn which part refused.
    fn typing_fault(&self, root: &Value) -> Fault {
        match serde_path_to_error::deserialize::<_, Config>(root) {
            Err(error) => {
                let at = ConfigPath::from(error.path());
                self.document.fault(&at, error.inner().to_string())
            }
            Ok(_) => self.document.fault(&ConfigPath::root(), "cannot be read"),
        }
    }
}

/// Adds an included file's lists to the main file's.
pub(super) fn append(root: &mut Value, mut fragment: Value) {
    let Some(root) = root.as_mapping_mut() else {
        return;
    };
    for list in LISTS {
        let Some(Value::Sequence(more)) = fragment.get_mut(list).map(std::mem::take) else {
            continue;
        };
        let items = root.entry(list.into()).or_insert(Value::Sequence(Vec::new()));
        if let Some(items) = items.as_sequence_mut() {
            items.extend(more);
        }
    }
}
