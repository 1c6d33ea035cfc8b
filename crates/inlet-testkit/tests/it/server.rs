use std::net::TcpStream;

use inlet_testkit::server::{Server, ServerKind};

fn comes_and_goes(kind: ServerKind) {
    let mut server = Server::start(kind);
    let address = ("127.0.0.1", server.port());
    assert!(TcpStream::connect(address).is_ok());
    server.stop(true);
    assert!(TcpStream::connect(address).is_err());
    server.resume_or_start();
    assert!(TcpStream::connect(address).is_ok());
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_redis_comes_crashes_comes_again_and_goes() {
    comes_and_goes(ServerKind::Redis);
}

#[test]
fn a_postgres_comes_crashes_comes_again_and_goes() {
    comes_and_goes(ServerKind::Postgres);
}

#[test]
fn an_emulator_comes_crashes_comes_again_and_goes() {
    comes_and_goes(ServerKind::Moto);
}
