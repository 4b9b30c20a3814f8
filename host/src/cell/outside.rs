//! What the outside is for the cells of a kernel: the open internet. A test may name servers of its own that stand in for
//! origins, and an authority that vouches for them; no setting leads here, so a deployed kernel has the default and nothing
//! else. For every origin without a stand-in the rule of addresses holds unchanged.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, pki_types::CertificateDer};

use super::outbound::Origin;

/// The servers that cells can reach, if their manifests list them.
#[derive(Clone, Default)]
pub struct Outside {
    stand_ins: Vec<(Origin, SocketAddr)>,
    /// Instead of the web's authorities; none in a deployed kernel.
    connector: Option<TlsConnector>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("stand_ins", &self.stand_ins).finish_non_exhaustive()
    }
}

impl Outside {
    /// Lets a server stand in for an origin: its name is not looked up, and its address is not judged.
    #[must_use]
    pub fn with_stand_in(mut self, origin: Origin, address: SocketAddr) -> Self {
        self.stand_ins.push((origin, address));
        self
    }

    /// Believes this authority instead of those of the web.
    pub fn with_authority(mut self, authority: CertificateDer<'static>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(authority).map_err(|cause| cause.to_string())?;
        self.connector = Some(connector(roots)?);
        Ok(self)
    }

    /// The server that stands in for an origin.
    #[must_use]
    pub fn stand_in(&self, origin: &Origin) -> Option<SocketAddr> {
        self.stand_ins.iter().find(|(known, _)| known == origin).map(|(_, address)| *address)
    }

    /// Encrypts connections, and knows whom to believe.
    pub fn connector(&self) -> Result<TlsConnector, String> {
        static OF_THE_WEB: LazyLock<Result<TlsConnector, String>> =
            LazyLock::new(|| connector(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() }));
        self.connector.clone().map_or_else(|| OF_THE_WEB.clone(), Ok)
    }
}

fn connector(roots: RootCertStore) -> Result<TlsConnector, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let settings = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| cause.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(settings)))
}
