//! Two instances, `one` in zone `a` and `two` in zone `b`, a worker, and an edge before them.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::server::{Server, TOKEN, inlet, until};

/// What stands before the edge does.
pub(crate) struct Behind {
    pub(crate) one: Option<Server>,
    pub(crate) two: Option<Server>,
    worker: Child,
    directory: TempDir,
}

/// All of it.
pub(crate) struct Site {
    pub(crate) edge: Server,
    pub(crate) behind: Behind,
}

impl Site {
    /// An edge with these flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::prepare().before(flags)
    }

    /// What is behind an edge, without the edge.
    pub(crate) fn prepare() -> Behind {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let start = |id: &str, zone: &str| {
            let flags = ["--instance", id, "--zone", zone, "--log-level", "warn"];
            Some(Server::start_as("serve", &data, &flags, Some(TOKEN)))
        };
        let (one, two) = (start("one", "a"), start("two", "b"));
        let mut worker = inlet(directory.path());
        worker.args(["persist", "--log-level", "warn", "--data"]).arg(&data);
        let worker = worker.stdin(Stdio::null()).spawn().unwrap();
        Behind { one, two, worker, directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.behind.path(name)
    }

    /// Writes the settings of the edge, with these instances in them.
    pub(crate) fn configure(&self, ids: &[&str]) {
        self.behind.configure(ids);
    }

    /// What the edge believes of an instance.
    pub(crate) fn health(&self, id: &str) -> String {
        let status = self.edge.get("/edge/status").json();
        let backends = status["backends"].as_array().unwrap();
        let found = backends.iter().find(|backend| backend["id"] == id).unwrap();
        found["health"].as_str().unwrap().to_owned()
    }

    /// Waits until the store has so many documents.
    pub(crate) fn wait_until_stored(&self, documents: u64) {
        until(&format!("{documents} documents are stored"), || {
            let streams = self.edge.get("/api/streams").json();
            let stored = streams["streams"][0]["documents"].as_u64().unwrap_or(0);
            assert!(stored <= documents, "{stored} documents are stored, {documents} were sent");
            stored == documents
        });
    }
}

impl Behind {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An edge before it, once both instances are up.
    pub(crate) fn before(self, flags: &[&str]) -> Site {
        self.configure(&["one", "two"]);
        let config = self.path("edge.toml");
        let config = ["--config", config.to_str().unwrap(), "--log-level", "warn"];
        let flags: Vec<&str> = config.iter().chain(flags).copied().collect();
        let edge = Server::start_as("edge", &self.path("edge"), &flags, Some(TOKEN));
        let site = Site { edge, behind: self };
        until("both are asked", || {
            ["one", "two"].iter().all(|id| ["up", "slow-start"].contains(&&*site.health(id)))
        });
        site
    }

    pub(crate) fn configure(&self, ids: &[&str]) {
        let line = |(id, zone, instance): (&str, &str, &Option<Server>)| {
            let address = instance.as_ref().map_or("127.0.0.1:1", Server::plain_address).to_owned();
            ids.contains(&id).then(|| format!("\"{address},zone={zone},id={id}\""))
        };
        let lines = [("one", "a", &self.one), ("two", "b", &self.two)].into_iter().filter_map(line);
        let text = format!("backend = [{}]\n", lines.collect::<Vec<_>>().join(", "));
        write_whole(&self.path("edge.toml"), &text);
    }
}

fn write_whole(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.worker.kill().unwrap();
        self.worker.wait().unwrap();
    }
}
