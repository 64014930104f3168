//! Scripts against whole gateways, one file a capability. One binary, so that Pingora is linked
//! once.

mod basics;
mod rooms;
