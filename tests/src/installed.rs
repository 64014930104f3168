//! A gateway that is installed: its program is found by a link that can be turned to another one while it runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::process::{Process, gateway_binary};

/// A folder with `gateway`, `gateway.yaml` and whatever else a test puts there. All processes that were started from it
/// are killed when it is dropped.
pub struct Installed {
    folder: TempDir,
}

impl Installed {
    /// Installs the stock binary with this config, in which `DIR` stands for the folder.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn new(config: &str) -> Self {
        let installed = Self { folder: tempfile::tempdir().expect("a folder can be made") };
        installed.configure(config);
        installed.turn_to(&gateway_binary());
        installed
    }

    /// Writes the config.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn configure(&self, config: &str) {
        let config = config.replace("DIR", &self.folder.path().display().to_string());
        let next = self.path("next.yaml");
        fs::write(&next, config).expect("the config can be written");
        fs::rename(next, self.path("gateway.yaml")).expect("it can be put in place");
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has `gateway` be this program.
    ///
    /// # Panics
    /// It cannot be put in place.
    pub fn turn_to(&self, program: &Path) {
        let next = self.path("next");
        symlink(program, &next).expect("a link can be made");
        fs::rename(next, self.path("gateway")).expect("it can be put in place");
    }

    /// Has `gateway` be this script.
    ///
    /// # Panics
    /// It cannot be put in place.
    pub fn turn_to_script(&self, script: &str) {
        let next = self.path("next");
        fs::write(&next, script).expect("the script can be written");
        fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).expect("it can be run");
        fs::rename(next, self.path("gateway")).expect("it can be put in place");
    }

    /// Runs it with its config.
    pub fn run(&self, more: &[&str]) -> Process {
        self.run_in(more, &[])
    }

    /// The same, with these variables in its environment.
    pub fn run_in(&self, more: &[&str], environment: &[(&str, &str)]) -> Process {
        let config = self.path("gateway.yaml").display().to_string();
        let arguments = [&["run", "-c", &config], more].concat();
        Process::start_in(&self.path("gateway"), &arguments, environment)
    }

    /// Runs a command of it to its end, in the folder.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let command =
            Command::new(gateway_binary()).args(arguments).current_dir(&self.folder).output();
        command.expect("the command can be run")
    }

    /// The processes that were started from the folder and run.
    ///
    /// # Panics
    /// The system does not tell.
    pub fn processes(&self) -> Vec<u32> {
        let own = self.folder.path().display().to_string();
        let all = fs::read_dir("/proc").expect("the system tells of its processes").flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_own = |number: &u32| {
            let words = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&own)
        };
        numbers.filter(is_own).collect()
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // One that is about to start another may have done so meanwhile.
        for _ in 0..2 {
            for process in self.processes() {
                let _ = Command::new("kill").args(["-s", "KILL", &process.to_string()]).status();
            }
        }
    }
}
