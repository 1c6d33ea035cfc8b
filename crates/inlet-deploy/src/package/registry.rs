//! Pushes an image by the registry protocol (OCI distribution specification 1.1): each blob that
//! is not there yet, then the manifest under its tag.

use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, header};

use super::{Blob, Image, PackageError};

/// How long one request may take, blobs of tens of megabytes among them.
const REQUEST_MAX: Duration = Duration::from_secs(300);
/// How often a request is tried in all; a registry under load drops some.
const ATTEMPTS_MAX: u32 = 3;

/// Who pushes.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody: a registry on this machine.
    None,
    /// The text of `Authorization: Basic`, as ECR's authorization token is.
    Basic(String),
}

/// A repository of a registry.
pub struct Registry {
    agent: Agent,
    /// `https://HOST` or `http://HOST`.
    url: String,
    name: String,
    credentials: Credentials,
}

impl Registry {
    /// The repository `name` (`team/inlet`) of the registry at `url` (`https://HOST`).
    pub fn new(url: &str, name: &str, credentials: Credentials) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_MAX))
            .build()
            .new_agent();
        Self { agent, url: url.trim_end_matches('/').into(), name: name.into(), credentials }
    }

    /// Pushes `image` under `tag` and gives its digest. What is there already is not sent again.
    pub fn push(&self, image: &Image, tag: &str) -> Result<String, PackageError> {
        if self.has_manifest(image)? {
            return Ok(image.manifest.digest.clone());
        }
        for blob in &image.blobs {
            if !self.has(blob)? {
                self.upload(blob)?;
            }
        }
        let url = format!("{}/v2/{}/manifests/{tag}", self.url, self.name);
        let response = self.send("PUT", &url, Some(&image.manifest))?;
        self.expect(response, &[201, 200], "put the manifest")?;
        Ok(image.manifest.digest.clone())
    }

    /// Whether the image is there: a registry whose tags can't be moved refuses to take it again.
    fn has_manifest(&self, image: &Image) -> Result<bool, PackageError> {
        let url = format!("{}/v2/{}/manifests/{}", self.url, self.name, image.manifest.digest);
        Ok(self.send("HEAD", &url, None)?.status().as_u16() == 200)
    }

    fn has(&self, blob: &Blob) -> Result<bool, PackageError> {
        let url = format!("{}/v2/{}/blobs/{}", self.url, self.name, blob.digest);
        let response = self.send("HEAD", &url, None)?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => self.expect(response, &[], "look for a blob").map(|_| false),
        }
    }

    fn upload(&self, blob: &Blob) -> Result<(), PackageError> {
        let url = format!("{}/v2/{}/blobs/uploads/", self.url, self.name);
        let response = self.send("POST", &url, None)?;
        let response = self.expect(response, &[202], "begin an upload")?;
        let location = response.headers().get(header::LOCATION);
        let location = location
            .and_then(|location| location.to_str().ok())
            .ok_or_else(|| self.failed("begin an upload", "there is no Location in the answer"))?;
        // The place may be a path, and may have a query of its own.
        let absolute = if location.starts_with('/') {
            format!("{}{location}", self.url)
        } else {
            location.into()
        };
        let separator = if absolute.contains('?') { '&' } else { '?' };
        let target = format!("{absolute}{separator}digest={}", blob.digest);
        let content = Blob { media_type: "application/octet-stream", ..blob.clone() };
        let response = self.send("PUT", &target, Some(&content))?;
        self.expect(response, &[201], "upload a blob").map(drop)
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        body: Option<&Blob>,
    ) -> Result<Response<ureq::Body>, PackageError> {
        let mut attempt = 1;
        loop {
            let mut request = ureq::http::Request::builder().method(method).uri(url);
            if let Credentials::Basic(text) = &self.credentials {
                request = request.header(header::AUTHORIZATION, format!("Basic {text}"));
            }
            if method == "HEAD" {
                request = request.header(header::ACCEPT, "*/*");
            }
            if let Some(blob) = body {
                request = request.header(header::CONTENT_TYPE, blob.media_type);
            }
            let bytes = body.map_or(&[][..], |blob| &blob.bytes);
            let request =
                request.body(bytes).map_err(|error| self.failed(method, &error.to_string()))?;
            match self.agent.run(request) {
                Ok(response) if response.status().as_u16() < 500 => return Ok(response),
                Ok(response) if attempt == ATTEMPTS_MAX => return Ok(response),
                Err(error) if attempt == ATTEMPTS_MAX => {
                    return Err(self.failed(method, &error.to_string()));
                }
                _ => std::thread::sleep(Duration::from_millis(200 << attempt)),
            }
            attempt += 1;
        }
    }

    fn expect(
        &self,
        mut response: Response<ureq::Body>,
        statuses: &[u16],
        attempted: &str,
    ) -> Result<Response<ureq::Body>, PackageError> {
        if statuses.contains(&response.status().as_u16()) {
            return Ok(response);
        }
        let said = response.body_mut().with_config().limit(4_096).read_to_string();
        let why = format!("{} {}", response.status(), said.unwrap_or_default());
        Err(self.failed(attempted, why.trim()))
    }

    fn failed(&self, attempted: &str, why: &str) -> PackageError {
        let host = self.url.split_once("//").map_or(self.url.as_str(), |(_, host)| host);
        PackageError::Push {
            repository: format!("{host}/{}", self.name),
            attempted: attempted.into(),
            why: why.into(),
        }
    }
}
