//! Rank 0 hands every other rank the identifier of the group.

use super::Launch;
use crate::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Bytes of a NCCL identifier.
pub(super) const LENGTH: usize = 128;
/// What a rank says first, so that a stranger at the port is not taken for one.
const GREETING: &[u8; 8] = b"dozen-r1";
/// How long ranks wait for each other: a scheduler may start them minutes apart.
const PATIENCE: Duration = Duration::from_mins(10);
/// Between attempts to reach rank 0.
const PAUSE: Duration = Duration::from_millis(200);

/// On rank 0, gives `identifier` to every other rank; on these, asks for it.
pub(super) fn share(
    launch: &Launch,
    identifier: impl FnOnce() -> Result<[u8; LENGTH], Error>,
) -> Result<[u8; LENGTH], Error> {
    let (address, port) = &launch.master;
    let failed = |what: &str, source: &std::io::Error| {
        Error::Launch(format!("rank {}: {what} {address}:{port}: {source}", launch.rank))
    };
    if launch.rank > 0 {
        return ask(launch).map_err(|source| failed("cannot reach rank 0 at", &source));
    }
    let identifier = identifier()?;
    hand_out(launch, &identifier).map_err(|source| failed("cannot wait for the other ranks at", &source))?;
    Ok(identifier)
}

fn hand_out(launch: &Launch, identifier: &[u8; LENGTH]) -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", launch.master.1))?;
    listener.set_nonblocking(true)?;
    let started = Instant::now();
    let mut here = vec![false; launch.world_size];
    here[0] = true;
    while here.contains(&false) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                let mut greeting = [0; GREETING.len() + 4];
                if stream.read_exact(&mut greeting).is_err() || !greeting.starts_with(GREETING) {
                    continue;
                }
                let [.., a, b, c, d] = greeting;
                let rank = u32::from_le_bytes([a, b, c, d]) as usize;
                // A rank that was started again asks again.
                if let Some(place) = here.get_mut(rank)
                    && stream.write_all(identifier).is_ok()
                {
                    *place = true;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if started.elapsed() > PATIENCE {
                    let missing = here.iter().filter(|here| !**here).count();
                    let message = format!("{missing} of {} ranks did not come", here.len());
                    return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, message));
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn ask(launch: &Launch) -> std::io::Result<[u8; LENGTH]> {
    let (address, port) = &launch.master;
    let started = Instant::now();
    loop {
        let attempt = || {
            let mut stream = TcpStream::connect((address.as_str(), *port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(GREETING)?;
            stream.write_all(&(launch.rank as u32).to_le_bytes())?;
            let mut identifier = [0; LENGTH];
            stream.read_exact(&mut identifier)?;
            Ok(identifier)
        };
        match attempt() {
            Err(_) if started.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_gets_what_rank_0_has() {
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let launch =
            move |rank| Launch { rank, local_rank: rank, world_size: 3, master: ("127.0.0.1".into(), port) };
        // A stranger first: it must neither count as a rank nor stop them.
        let stranger = std::thread::spawn(move || {
            while TcpStream::connect(("127.0.0.1", port))
                .and_then(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n"))
                .is_err()
            {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let others =
            [1, 2].map(|rank| std::thread::spawn(move || share(&launch(rank), || unreachable!()).unwrap()));
        let mine = share(&launch(0), || Ok([42; LENGTH])).unwrap();
        stranger.join().unwrap();
        for other in others {
            assert_eq!(other.join().unwrap(), mine);
        }
    }
}
