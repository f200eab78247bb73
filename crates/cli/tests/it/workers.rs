//! Engines that are processes of their own: what happens to requests when such a process ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::http::{post, receive, send};
use crate::support::{Server, engines, guest, has_workers};

/// The processes that a process has started and that run, by their numbers.
fn children(parent: u32) -> Vec<Pid> {
    let stat = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the program's name in brackets come the state and the parent.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let is_running = fields.next()? != "Z";
        (is_running && fields.next()? == parent.to_string()).then_some(Pid::from_raw(pid)?)
    };
    std::fs::read_dir("/proc").expect("this is Linux").filter_map(|entry| stat(entry.ok()?)).collect()
}

#[test]
fn requests_whose_worker_is_killed_are_answered_all_the_same() {
    const REQUESTS: usize = 200;
    for engine in engines().iter().copied().filter(|engine| has_workers(engine)) {
        let server = Server::start(
            &format!(
                r#"
                [server]
                workers = 4
                [[function]]
                name = "canny"
                module = "@guests/canny/canny.wasm"
                engines = ["{engine}", "wasmi.lazy"]
                "#
            ),
            &[],
        );
        let photograph = std::fs::read(guest("canny/input/camera-palette.png")).unwrap();
        let edges = std::fs::read(guest("canny/expected/camera-palette.png")).unwrap();
        let (next, killed, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for child in children(server.pid()) {
                        // It may have ended by now.
                        if rustix::process::kill_process(child, Signal::KILL).is_ok() {
                            killed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        while next.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                            let response = post(&server.address, "/canny", &photograph);
                            assert_eq!(response.status, 200, "{}", response.text());
                            assert!(response.body == edges, "another picture");
                        }
                    })
                })
                .collect();
            let ended: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Relaxed);
            killer.join().expect("it kills until it is told to stop");
            assert!(ended.iter().all(Result::is_ok), "every request is answered");
        });
        assert!(killed.load(Ordering::Relaxed) > 0, "nothing was tested");
    }
}

#[test]
fn a_request_that_must_not_be_repeated_fails_with_the_reason() {
    for engine in engines().iter().copied().filter(|engine| has_workers(engine)) {
        let folder = tempfile::tempdir().expect("there is a temporary folder");
        let server = Server::start(
            &format!(
                r#"
                [[function]]
                name = "spin"
                module = "@guests/trap/interrupted/interrupted.count.wasm"
                engines = ["{engine}"]
                limits = {{ timeout = "60s" }}
                dirs = [{{ host = "{}", guest = "/data", writable = true }}]
                "#,
                folder.path().display()
            ),
            &[],
        );
        let request = send(&server.address, "POST", "/spin", &[], b"");
        let response = std::thread::scope(|scope| {
            let killer = scope.spawn(|| {
                // The guest is surely running once its worker uses the CPU, and it takes all of a core.
                let runs = |child: &Pid| cpu_ticks(*child) > 50;
                loop {
                    if let Some(child) = children(server.pid()).into_iter().find(runs) {
                        break rustix::process::kill_process(child, Signal::KILL).expect("it runs");
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let response = receive(request);
            killer.join().expect("it kills one worker");
            response
        });
        assert_eq!(response.status, 500, "{}", response.text());
        // A client is told no more than that; the reason is in the log.
        assert!(!response.text().contains("signal"), "{}", response.text());
    }
}

/// The CPU time of a process, in ticks of the kernel (a hundredth of a second on all machines of today).
fn cpu_ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    ticks.next().unwrap_or(0) + ticks.next().unwrap_or(0)
}
