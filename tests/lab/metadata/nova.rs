//! An existing Nova metadata service answers instead, and is told who asks.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use overlane_core::services::metadata::{Protocol, Upstream};

use super::{Clouds, curl, furnish};

const SECRET: &str = "a-very-secret-word";

fn upstream(port: u16) -> Upstream {
    let shared_secret = SECRET.to_owned().into();
    Upstream { protocol: Protocol::Http, host: "192.0.2.1".to_owned(), port, shared_secret }
}

/// Answers one request in a namespace, and returns it: the lines of its head, and its body.
fn answer_once(listener: &TcpListener, answer: &str) -> Result<(Vec<String>, String)> {
    let (stream, _) = listener.accept().context("accepting")?;
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).context("reading a request")?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).context("reading a body")?;
    stream.get_mut().write_all(answer.as_bytes()).context("answering")?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}

/// What Nova hears, and what the machine gets, when the machine asks with these options.
fn ask(
    clouds: &Clouds,
    listener: &TcpListener,
    answer: &str,
    options: &[&str],
) -> Result<(Vec<String>, String, (String, String))> {
    thread::scope(|scope| {
        let nova = scope.spawn(|| answer_once(listener, answer));
        let got = curl(clouds.machine(), "/openstack/latest/password?x=1", options);
        let (head, body) = nova.join().expect("it does not panic")?;
        Ok((head, body, got?))
    })
}

#[test]
fn nova_is_told_who_asks_in_signed_headers_and_nothing_that_the_machine_says_of_itself() -> Result<()> {
    let port = 8775;
    let clouds = Clouds::new(&["one"], |state| {
        state.upstream = Some(upstream(port));
        furnish(&mut state.instances[0]);
    })?;
    let listener = clouds.host.inside(|| TcpListener::bind(("192.0.2.1", port)).context("listening"))?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/x-test\r\nX-Internal: secret\r\nContent-Length: 5\r\n\r\nhello";
    let lies = [
        "X-Instance-ID: two",
        "X-Forwarded-For: 1.2.3.4",
        "X-Tenant-ID: x",
        "X-Instance-ID-Signature: 00",
        "Cookie: x",
    ];
    let mut options: Vec<&str> = lies.iter().flat_map(|lie| ["--header", lie]).collect();
    options.extend(["--data", "a-password", "--include"]);
    let (head, body, (status, got)) = ask(&clouds, &listener, answer, &options)?;
    ensure!(
        status == "200" && got.ends_with("hello") && got.contains("text/x-test") && !got.contains("X-Internal"),
        "{got}"
    );
    ensure!(body == "a-password", "{body}");
    let mut head = head.into_iter().map(|line| line.to_lowercase()).collect::<Vec<_>>();
    ensure!(head.remove(0) == "post /openstack/latest/password?x=1 http/1.1", "{head:?}");
    head.sort();
    // HMAC-SHA256 of "one", as `openssl dgst -sha256 -hmac a-very-secret-word` has it.
    let signature = "0998e5516d8912c561f5fbb0b458ad97d081765956ecdddfb0f8a0f91c197103";
    let expected = [
        "content-length: 10".to_owned(),
        format!("host: 192.0.2.1:{port}"),
        "x-forwarded-for: 10.0.0.5".to_owned(),
        format!("x-instance-id-signature: {signature}"),
        "x-instance-id: one".to_owned(),
        "x-tenant-id: a-project".to_owned(),
    ];
    ensure!(head == expected, "{head:?}");
    Ok(())
}

#[test]
fn a_nova_that_refuses_or_cannot_be_reached_is_told_to_the_machine_and_the_log_without_the_secret() -> Result<()> {
    let port = 8775;
    let clouds = Clouds::new(&["one"], |state| {
        state.upstream = Some(upstream(port));
        furnish(&mut state.instances[0]);
    })?;
    let (status, body) = curl(clouds.machine(), "/latest/meta-data/", &[])?;
    ensure!(status == "502" && body.contains("cannot be reached"), "{status} {body}");
    clouds.service.wait_for_log("asking Nova's metadata service at 192.0.2.1:8775: Connection refused")?;
    let listener = clouds.host.inside(|| TcpListener::bind(("192.0.2.1", port)).context("listening"))?;
    let (_, _, (status, _)) = ask(&clouds, &listener, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", &[])?;
    ensure!(status == "403", "{status}");
    clouds.service.wait_for_log("Nova refuses the signature: metadata_proxy_shared_secret")?;
    for (answer, expected) in [("nonsense\r\n\r\n", "502"), ("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", "500")] {
        let (_, _, (status, _)) = ask(&clouds, &listener, answer, &[])?;
        ensure!(status == expected, "{answer:?}: {status}");
    }
    let log = clouds.service.log()?;
    ensure!(!log.contains(SECRET), "{log}");
    Ok(())
}
