//! As much of a browser as pages need: requests over HTTP/1.1, forms, and a stream of events.

use crate::server::{Server, within};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// Somebody who looks at the pages of a server.
pub(crate) struct Browser {
    address: SocketAddr,
    headers: String,
}

/// What a page answered.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Page {
    /// A header, by its name in small letters.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &'_ str| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value.len())
        };
        self.head.lines().find_map(|line| named(line).map(|len| &line[line.len() - len..]))
    }

    /// What cookies are set, with their attributes.
    pub(crate) fn cookies(&self) -> Vec<String> {
        let lines = self.head.lines().filter_map(|line| line.strip_prefix("set-cookie: "));
        lines.map(str::to_owned).collect()
    }

    /// The value of a hidden field of a form.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let mark = format!("type=\"hidden\" name=\"{name}\" value=\"");
        let (_, rest) =
            self.body.split_once(&mark).unwrap_or_else(|| panic!("no {name}: {}", self.body));
        rest.split('"').next().unwrap().to_owned()
    }

    /// Without its marks, so that words can be looked for across them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut inside = false;
        for letter in self.body.chars() {
            match letter {
                '<' => inside = true,
                '>' => inside = false,
                _ if !inside => text.push(letter),
                _ => {}
            }
        }
        text
    }
}

impl Browser {
    /// Of nobody.
    pub(crate) fn new(server: &Server) -> Self {
        Self { address: server.address, headers: String::new() }
    }

    /// Of somebody, as the form that names them leaves it.
    pub(crate) fn of(server: &Server, principal: &str, groups: &str) -> Self {
        let cookie = format!("phasegate-principal={principal}; phasegate-groups={groups}");
        Self::new(server).with(&format!("cookie: {cookie}"))
    }

    /// With one more header.
    pub(crate) fn with(mut self, header: &str) -> Self {
        self.headers.push_str(&format!("{header}\r\n"));
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Page {
        self.send(&format!("GET {path}"), "", "").await
    }

    /// Sends a form as a page of the server's own would.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.send(&format!("POST {path}"), "sec-fetch-site: same-origin\r\n", &form(fields)).await
    }

    /// Sends a form from wherever the headers say.
    pub(crate) async fn post_from(
        &self,
        path: &str,
        headers: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        self.send(&format!("POST {path}"), headers, &form(fields)).await
    }

    /// Sends a request, with the headers of this one call, each with its line end.
    pub(crate) async fn send(&self, line: &str, headers: &str, body: &str) -> Page {
        let host = if self.headers.contains("host:") { "" } else { "host: localhost\r\n" };
        let is_form = !headers.contains("content-type:");
        let kind = if is_form { "content-type: application/x-www-form-urlencoded\r\n" } else { "" };
        let request = format!(
            "{line} HTTP/1.1\r\n{host}{}{headers}{kind}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.headers,
            body.len()
        );
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        // A server that refuses a large body may close before it has all of it.
        let _ = tcp.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = within(tcp.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Page { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Follows a page.
    pub(crate) async fn follow(&self, path: &str) -> Events {
        let mut tcp = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("GET /live{path} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", self.headers);
        tcp.write_all(request.as_bytes()).await.unwrap();
        Events { lines: BufReader::new(tcp) }
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A stream of server-sent events.
pub(crate) struct Events {
    lines: BufReader<TcpStream>,
}

impl Events {
    /// The next event of a kind; none if the stream has ended.
    pub(crate) async fn next(&mut self, kind: &str) -> Option<serde_json::Value> {
        let mut is_wanted = false;
        loop {
            let mut line = String::new();
            if within(self.lines.read_line(&mut line)).await.ok()? == 0 {
                return None;
            }
            if let Some(event) = line.trim().strip_prefix("event: ") {
                is_wanted = event == kind;
            } else if let Some(data) = line.trim().strip_prefix("data: ")
                && is_wanted
            {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The ids of the regions that come next.
    pub(crate) async fn regions(&mut self) -> Vec<String> {
        let message = self.next("regions").await.expect("the stream goes on");
        let regions = message["regions"].as_array().unwrap();
        regions.iter().map(|region| region["id"].as_str().unwrap().to_owned()).collect()
    }
}
