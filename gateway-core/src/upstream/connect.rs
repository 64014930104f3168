//! Connections for who speaks something else than HTTP.

use std::net::SocketAddr;

use pingora::{Error, ErrorType};

use super::transport::{Offer, introduction};
use super::{Endpoint, Retry, Upstream, Wire};

impl Upstream {
    /// Connects to an endpoint for one client alone, within the time that connecting may take.
    ///
    /// # Errors
    /// Of the kinds that a failure's code is told by.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        client: SocketAddr,
        gateway: SocketAddr,
    ) -> Result<Wire, Box<Error>> {
        let version = self.transport.proxy_protocol;
        let header = version.map(|version| introduction(version, client, gateway));
        let dialled = self.transport.dial(endpoint.address, header.as_deref(), Offer::Other);
        let per_try = self.retry.as_ref().and_then(Retry::per_try);
        let longest = self.timeouts.connect;
        let longest = per_try.map_or(longest, |per_try| per_try.min(longest));
        let late = |_| Error::explain(ErrorType::ConnectTimedout, "connecting took too long");
        tokio::time::timeout(longest, dialled).await.map_err(late)?
    }
}
