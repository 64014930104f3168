//! `gateway fmt`: brings config files into the one layout.

use std::io::{Write, read_to_string, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use gateway_core::config::{Faults, FileLayout, config_files, laid_out};
use gateway_core::{EXIT_CONFIG, EXIT_FAILED};

#[derive(Args)]
pub(crate) struct Fmt {
    /// The files; `-` reads stdin and writes stdout. Without any: gateway.yaml and the files that it includes
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write nothing, list the files that are not in this layout, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
    /// Write what would stand in the files to stdout, and leave them alone
    #[arg(long, conflicts_with = "check")]
    stdout: bool,
}

impl Fmt {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let files = match self.files.is_empty() {
            true => config_files(Path::new("gateway.yaml"))?,
            false => self.files.clone(),
        };
        let (mut has_faults, mut all_in_form) = (false, true);
        for path in &files {
            let is_stdin = path == Path::new("-");
            match if is_stdin { self.pass_on()? } else { self.file(path)? } {
                Ok(is_in_form) => all_in_form &= is_in_form,
                Err(faults) => {
                    eprintln!("{faults}");
                    has_faults = true;
                }
            }
        }
        Ok(match (has_faults, self.check && !all_in_form) {
            (true, _) => ExitCode::from(EXIT_CONFIG),
            (false, true) => ExitCode::from(EXIT_FAILED),
            (false, false) => ExitCode::SUCCESS,
        })
    }

    /// Whether the file was in this layout already.
    fn file(&self, path: &Path) -> Result<Result<bool, Faults>> {
        let file = match FileLayout::of(path) {
            Ok(file) => file,
            Err(faults) => return Ok(Err(faults)),
        };
        if self.stdout {
            write!(stdout(), "{}", file.laid_out)?;
        } else if !file.is_in_form() {
            if !self.check {
                file.replace().with_context(|| format!("{} is left as it was", path.display()))?;
            }
            writeln!(stdout(), "{}", path.display())?;
        }
        Ok(Ok(file.is_in_form()))
    }

    /// The same of stdin.
    fn pass_on(&self) -> Result<Result<bool, Faults>> {
        let text = read_to_string(stdin()).context("stdin")?;
        let told = laid_out("stdin", &text);
        match &told {
            Ok(told) if !self.check => write!(stdout(), "{told}")?,
            Ok(told) if *told != text => writeln!(stdout(), "-")?,
            _ => {}
        }
        Ok(told.map(|told| told == text))
    }
}
