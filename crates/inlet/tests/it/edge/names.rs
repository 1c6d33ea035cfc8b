//! Instances by name: those that can't be looked up hold up nobody. A resolver that hangs and one
//! whose answers change are in `tests/edge/test_names.py`.

use crate::server::{Server, TOKEN, until};

use super::site::Site;

fn port(server: &Server) -> &str {
    server.plain_address().rsplit_once(':').unwrap().1
}

#[test]
fn one_name_that_can_not_be_looked_up_keeps_neither_the_edge_from_starting_nor_the_others() {
    let behind = Site::prepare();
    let port = port(behind.one.as_ref().unwrap()).to_owned();
    let config = behind.path("names.toml");
    let settings = |names: &[String]| {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        std::fs::write(&config, format!("backend = [{}]\n", names.join(", "))).unwrap();
    };
    let known = format!("localhost:{port},zone=a,id=one");
    let unknown = "nosuch.invalid:8090,zone=b,id=two".to_owned();
    settings(&[unknown.clone(), known.clone()]);
    let flags = ["--config", config.to_str().unwrap(), "--log-level", "error"];
    let edge = Server::start_as("edge", &behind.path("edge"), &flags, Some(TOKEN));
    until("the one that is known answers", || edge.get("/healthz").status == 200);
    assert_eq!(edge.get("/").json()["instance"], "one");
    // The list is read again with the name still in it, and with another address beside it.
    let two = behind.two.as_ref().unwrap().plain_address();
    settings(&[known, unknown, format!("{two},zone=b,id=three")]);
    edge.signal(rustix::process::Signal::HUP);
    until("the one that was added answers too", || edge.get("/").json()["instance"] == "two");
    assert!(edge.stop().success());
}

#[test]
fn an_edge_none_of_whose_names_can_be_looked_up_starts_and_says_that_it_has_no_instance() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--backend", "nosuch.invalid:8090", "--log-level", "error"];
    let edge = Server::start_as("edge", &directory.path().join("edge"), &flags, Some(TOKEN));
    let answer = edge.get("/");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("Unavailable")));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(edge.stop().success());
}
