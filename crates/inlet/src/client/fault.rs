//! Why a server could not be reached, and what a person can do about it.

use std::io;

use rustls::CertificateError;

/// Why a server could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody listens there.
    Refused,
    /// The name leads nowhere.
    Unknown,
    /// It took too long.
    Late,
    /// No authority that is trusted has signed its certificate.
    Untrusted,
    /// Its certificate is for other names.
    OtherName,
    /// Its certificate is not good at this moment.
    OutOfDate,
    /// Its certificate is not good for another reason.
    Certificate,
    /// It does not speak TLS.
    NoTls,
    /// It does not speak HTTP, as a server that speaks TLS does not.
    NoHttp,
    /// The connection broke.
    Broken,
}

impl Fault {
    pub(super) fn of(error: &ureq::Error) -> Self {
        match error {
            ureq::Error::HostNotFound => Self::Unknown,
            ureq::Error::Timeout(_) => Self::Late,
            ureq::Error::Rustls(error) => Self::of_tls(error),
            ureq::Error::Io(error) => Self::of_io(error),
            ureq::Error::Protocol(_) => Self::NoHttp,
            _ => Self::Broken,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        let mut cause = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
        while let Some(inner) = cause {
            if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
                return Self::of_tls(tls);
            }
            cause = inner.source();
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Late,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::Unknown,
            // The standard library has no kind for a name that can't be resolved.
            _ if error.to_string().contains("lookup address") => Self::Unknown,
            _ => Self::Broken,
        }
    }

    fn of_tls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => match error {
                // The last is what is said of one that is its own authority.
                CertificateError::UnknownIssuer
                | CertificateError::BadSignature
                | CertificateError::Other(_) => Self::Untrusted,
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::OtherName,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::OutOfDate,
                _ => Self::Certificate,
            },
            rustls::Error::InvalidMessage(_) => Self::NoTls,
            _ => Self::Broken,
        }
    }

    /// Whether trying again later can succeed by itself.
    pub(super) fn is_passing(self) -> bool {
        matches!(self, Self::Refused | Self::Late | Self::Broken)
    }

    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Refused => "is the server running? `inlet up` starts one; --url names another",
            Self::Unknown => "check the name in --url, and this machine's network",
            Self::Late => "is it reachable from here? a firewall may be in between",
            Self::Untrusted => {
                "no authority that is trusted here has signed its certificate; name the \
                 certificate, or its authority's, with --cacert"
            }
            Self::OtherName => "its certificate is for other names: use one of them in --url",
            Self::OutOfDate => "its certificate is out of date, or the clock of this machine is",
            Self::Certificate => {
                "its certificate can't be used; look at it with `openssl s_client`"
            }
            Self::NoTls => "does it speak HTTP without TLS? try http:// in --url",
            Self::NoHttp => "does it speak TLS? try https:// in --url",
            Self::Broken => "try again; the log of the server may say more",
        }
    }
}
