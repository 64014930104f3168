//! Scripts against whole gateways, one file a capability. One binary, so that Pingora is linked
//! once.

mod basics;
mod command_line;
mod config_files;
mod connections;
mod failures;
mod first_plugin;
mod forwarding;
mod http2;
mod http_letter;
mod plugins;
mod reload;
mod rooms;
mod routes;
mod telemetry;
mod upstreams;
