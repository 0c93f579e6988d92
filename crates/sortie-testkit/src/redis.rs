//! Real Redis servers: one, or a cluster of masters.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::ports::free_port;
use crate::process::Process;
use crate::tools::program;

const START_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A throw-away Redis server on a loopback port; it keeps nothing on disk but its log.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
    home: TempDir,
    flags: Vec<String>,
}

/// A cluster of three Redis masters that share the slots.
#[derive(Debug)]
pub struct RedisCluster {
    masters: Vec<Redis>,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(flags: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>();
        let process = spawn(port, home.path(), &flags);
        let redis = Self { port, process, home, flags };
        redis.until_it_answers().await;
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Says one command and returns the reply's first line, or a bulk string's content.
    pub async fn ask(&self, words: &[&str]) -> String {
        let asked = timeout(START_MAX, self.command(words)).await;
        let reply = asked.expect("an answer in time");
        reply.unwrap_or_else(|error| panic!("{words:?}: {error}; {}", self.log()))
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait(START_MAX).await.expect("a killed process ends");
    }

    /// Starts it again, with nothing of what it held.
    pub async fn restart(&mut self) {
        self.process = spawn(self.port, self.home.path(), &self.flags);
        self.until_it_answers().await;
    }

    /// Halts it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    async fn until_it_answers(&self) {
        let end = Instant::now() + START_MAX;
        while !self.command(&["PING"]).await.is_ok_and(|reply| reply == "PONG") {
            assert!(Instant::now() < end, "Redis does not start: {}", self.log());
            sleep(POLL).await;
        }
    }

    async fn command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address()).await?;
        let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
        let request = format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>());
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        loop {
            if let Some(whole) = whole(&reply) {
                return Ok(whole);
            }
            if stream.read_buf(&mut reply).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl RedisCluster {
    /// Starts three masters, gives each a third of the slots, and waits until all agree.
    pub async fn start() -> Self {
        let mut masters = Vec::new();
        for _ in 0..3 {
            let bus = free_port().to_string();
            let flags = ["--cluster-enabled", "yes", "--cluster-port", &bus];
            masters.push(Redis::start_with(&flags).await);
        }
        for (master, slots) in masters.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            let (first, last) = slots.split_once(' ').expect("two numbers");
            let added = master.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
            assert_eq!(added, "OK");
        }
        for (at, other) in masters.iter().enumerate().skip(1) {
            let bus = &other.flags[3];
            let (port, epoch) = (other.port.to_string(), (at + 1).to_string());
            other.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
            let met = masters[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
            assert_eq!(met, "OK");
        }
        let cluster = Self { masters };
        cluster.until_it_agrees().await;
        cluster
    }

    /// The URLs of its masters.
    pub fn urls(&self) -> Vec<String> {
        self.masters.iter().map(Redis::url).collect()
    }

    /// Its masters.
    pub fn masters(&mut self) -> &mut [Redis] {
        &mut self.masters
    }

    /// Waits until every master sees all slots and all others.
    pub async fn until_it_agrees(&self) {
        let end = Instant::now() + START_MAX;
        for master in &self.masters {
            loop {
                let info = master.ask(&["CLUSTER", "INFO"]).await;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                    break;
                }
                assert!(Instant::now() < end, "the cluster does not form: {info}");
                sleep(POLL).await;
            }
        }
    }
}

fn spawn(port: u16, home: &Path, flags: &[String]) -> Process {
    let log = File::create(home.join("log")).expect("a log can be written");
    let mut command = Command::new(binary());
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
    command.args(["--appendonly", "no", "--daemonize", "no", "--dir"]).arg(home).args(flags);
    command.stdout(Stdio::from(log)).stderr(Stdio::null());
    Process::spawn(&mut command)
}

fn binary() -> PathBuf {
    program("redis-server")
}

/// A simple reply, or the content of a bulk string, once it is all there.
fn whole(reply: &[u8]) -> Option<String> {
    let end = reply.windows(2).position(|pair| pair == b"\r\n")?;
    let (first, rest) = (std::str::from_utf8(&reply[1..end]).ok()?, &reply[end + 2..]);
    match reply[0] {
        b'$' if first == "-1" => Some(String::new()),
        b'$' => {
            let content = rest.get(..first.parse().ok()?)?;
            Some(String::from_utf8_lossy(content).into_owned())
        }
        _ => Some(first.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_starts_is_killed_and_comes_back_empty() {
        let mut redis = Redis::start().await;
        assert_eq!(redis.ask(&["SET", "a", "1"]).await, "OK");
        assert_eq!(redis.ask(&["GET", "a"]).await, "1");
        redis.kill().await;
        redis.restart().await;
        assert_eq!(redis.ask(&["GET", "a"]).await, "");
        let home = redis.home.path().to_owned();
        drop(redis);
        assert!(!home.exists());
    }

    #[tokio::test]
    async fn three_masters_share_the_slots() {
        let cluster = RedisCluster::start().await;
        let mut moved = 0;
        for key in 0..30 {
            let reply = cluster.masters[0].ask(&["SET", &format!("k{key}"), "1"]).await;
            assert!(reply == "OK" || reply.starts_with("MOVED"), "{reply}");
            moved += usize::from(reply != "OK");
        }
        assert!((5..28).contains(&moved), "{moved} of 30 keys elsewhere");
    }
}
