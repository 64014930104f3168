//! THE DOOR: the `gateway` command. One file a subcommand, no logic of its own.

mod admin;
mod breaker;
mod check;
mod config;
mod drain;
mod explain;
mod fmt;
mod logs;
mod plugins;
mod reload;
mod routes;
mod run;
mod schema;
mod status;
mod upgrade;
mod upstreams;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use gateway_core::{Gateway, GatewayBuilder};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A gateway that can explain and safely change itself.
#[derive(Parser)]
#[command(name = "gateway", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve in the foreground until told to end
    Run(run::Run),
    /// Build everything a config describes, without a socket, and say what is wrong
    #[command(visible_alias = "-t")]
    Check(check::Check),
    /// Tell a running gateway to read its config again
    Reload(reload::Reload),
    /// Show a config as it takes effect, compare two, list those that were accepted, go back to one of them
    Config(config::ConfigCall),
    /// Have a process of the program as it is now take over from a running gateway
    Upgrade(upgrade::Upgrade),
    /// Have a running gateway finish what it serves, and end
    Drain(drain::Drain),
    /// Tell how a running gateway is doing; exit code 1 where it is not ready
    Status(status::Status),
    /// Tell what would become of a request, and why; nothing is sent
    Explain(explain::Explain),
    /// List the route table in the order in which its rows are tried
    Routes(routes::Routes),
    /// List a running gateway's upstreams and the state of their endpoints
    Upstreams(upstreams::Upstreams),
    /// Drain, restore or weigh one endpoint of a running gateway
    Endpoint(upstreams::EndpointCall),
    /// Open or close circuit breakers of a running gateway, whatever they find
    Breaker(breaker::BreakerCall),
    /// Bring config files into the one layout, which keeps comments and what they mean
    Fmt(fmt::Fmt),
    /// Print the JSON Schema of the config, for editors
    Schema,
    /// List the kinds of plugin
    Plugins(plugins::Plugins),
    /// Print the version
    Version(version::Version),
}

/// Where the config is.
#[derive(Args)]
struct ConfigFile {
    /// The config file
    #[arg(short, long, value_name = "FILE", default_value = "gateway.yaml")]
    config: PathBuf,
}

impl ConfigFile {
    /// The stock gateway with this config.
    fn gateway(&self) -> GatewayBuilder {
        stock().config_file(&self.config)
    }
}

/// The stock gateway: every plugin of the catalogue.
fn stock() -> GatewayBuilder {
    Gateway::builder().plugins(gateway_plugins::all())
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(run) => return run.run(),
        Command::Check(check) => check.run(),
        Command::Reload(reload) => reload.run(),
        Command::Config(call) => call.run(),
        Command::Upgrade(upgrade) => upgrade.run(),
        Command::Drain(drain) => drain.run(),
        Command::Status(status) => status.run(),
        Command::Explain(explain) => explain.run(),
        Command::Routes(routes) => routes.run(),
        Command::Upstreams(upstreams) => upstreams.run(),
        Command::Endpoint(call) => call.run(),
        Command::Breaker(call) => call.run(),
        Command::Fmt(fmt) => fmt.run(),
        Command::Schema => schema::run(),
        Command::Plugins(plugins) => plugins.run(),
        Command::Version(version) => version.run(),
    };
    outcome.unwrap_or_else(|error| {
        if error.downcast_ref::<std::io::Error>().is_some_and(is_broken_pipe) {
            // Whoever read the output has seen enough.
            return ExitCode::SUCCESS;
        }
        eprintln!("{error:#}");
        ExitCode::from(if error.is::<gateway_core::config::Faults>() {
            gateway_core::EXIT_CONFIG
        } else {
            gateway_core::EXIT_FAILED
        })
    })
}

fn is_broken_pipe(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}
