//! The ids of documents that the edge before this instance mints.
//!
//! An edge before instances of its own gives each document without a key its id, so that it may
//! send the document to a second instance when the first one fails it. Nobody else may choose the
//! id of a document: it is taken beside the secret that edge and instance share, and refused
//! otherwise.

use http::HeaderMap;
use http::header::HeaderName;
use inlet_core::id::DocumentId;
use inlet_core::rejection::Rejection;
use sha2::{Digest, Sha256};

const X_INLET_DOCUMENT_ID: HeaderName = HeaderName::from_static("x-inlet-document-id");
const X_INLET_EDGE: HeaderName = HeaderName::from_static("x-inlet-edge");

/// The rejection of an id that is not the edge's.
const REFUSED: Rejection = Rejection::ParameterInvalid {
    name: "X-Inlet-Document-Id",
    expected: "none: it is given by the edge before an instance, and by nobody else",
};

/// The hash of the secret, where there is an edge.
#[derive(Default)]
pub(crate) struct EdgeSecret(Option<[u8; 32]>);

impl EdgeSecret {
    pub(crate) fn new(secret: &str) -> Self {
        Self(Some(Sha256::digest(secret).into()))
    }

    /// The id that the edge minted, if it did.
    ///
    /// # Errors
    /// Returns a rejection if somebody else gave one.
    pub(crate) fn minted(&self, headers: &HeaderMap) -> Result<Option<DocumentId>, Rejection> {
        let mut given = headers.get_all(X_INLET_DOCUMENT_ID).iter();
        let Some(id) = given.next() else { return Ok(None) };
        // Hashes are compared, so that the time it takes says nothing of the secret.
        let is_edge = headers.get(X_INLET_EDGE).is_some_and(|secret| {
            self.0.is_some_and(|hash| <[u8; 32]>::from(Sha256::digest(secret)) == hash)
        });
        if !is_edge || given.next().is_some() {
            return Err(REFUSED);
        }
        let id: DocumentId = id.to_str().map_err(|_| REFUSED)?.parse().map_err(|_| REFUSED)?;
        // One that says no moment is that of a key.
        if !id.is_ours() || id.accepted().is_none() {
            return Err(REFUSED);
        }
        Ok(Some(id))
    }
}
