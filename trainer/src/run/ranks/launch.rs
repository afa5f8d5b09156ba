//! Which of how many processes this is.

use crate::Error;

/// What torchrun, Slurm and Kubernetes jobs say in RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Number of this process, from 0.
    pub rank: usize,
    /// Number of this process on its machine: the GPU it takes.
    pub local_rank: usize,
    /// Number of processes.
    pub world_size: usize,
    /// Where rank 0 can be reached.
    pub master: (String, u16),
}

impl Launch {
    /// Reads the environment; `None` for a run of one process.
    pub fn from_environment() -> Result<Option<Self>, Error> {
        Self::parse(&|name| std::env::var(name).ok())
    }

    fn parse(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let number = |name: &str, otherwise: Option<usize>| match (variable(name), otherwise) {
            (Some(text), _) => text
                .trim()
                .parse::<usize>()
                .map_err(|_| Error::Launch(format!("{name} is `{text}`; it must be a whole number"))),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(Error::Launch(format!(
                "WORLD_SIZE is set, but {name} is not; set RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT"
            ))),
        };
        let world_size = number("WORLD_SIZE", Some(1))?;
        if world_size < 2 {
            return Ok(None);
        }
        let (rank, local_rank) = (number("RANK", None)?, number("LOCAL_RANK", Some(0))?);
        if rank >= world_size {
            return Err(Error::Launch(format!(
                "RANK is {rank}; it must be below WORLD_SIZE, which is {world_size}"
            )));
        }
        let port = number("MASTER_PORT", Some(29_500))?;
        // torchrun keeps MASTER_PORT for a store of its own and says so; the port after it is ours then.
        let port =
            port + usize::from(variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|own| own == "True"));
        let port = u16::try_from(port)
            .map_err(|_| Error::Launch(format!("MASTER_PORT is {port}; ports end at 65535")))?;
        let address = variable("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".into());
        Ok(Some(Self { rank, local_rank, world_size, master: (address, port) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Option<Launch>, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Launch::parse(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_world_there_is_one_process() {
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&[("WORLD_SIZE", "1"), ("RANK", "0")]), Ok(None));
    }

    #[test]
    fn the_usual_variables_are_understood() {
        let base = [
            ("WORLD_SIZE", "8"),
            ("RANK", "5"),
            ("LOCAL_RANK", "1"),
            ("MASTER_ADDR", "node-0"),
            ("MASTER_PORT", "1234"),
        ];
        let master = |port| ("node-0".to_owned(), port);
        let expected = Launch { rank: 5, local_rank: 1, world_size: 8, master: master(1234) };
        assert_eq!(parse(&base), Ok(Some(expected.clone())));
        let torchrun = [&base[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert_eq!(parse(&torchrun), Ok(Some(Launch { master: master(1235), ..expected })));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |variables: &[(&str, &str)]| parse(variables).unwrap_err();
        assert!(refused(&[("WORLD_SIZE", "two")]).contains("WORLD_SIZE is `two`"));
        assert!(refused(&[("WORLD_SIZE", "2")]).contains("RANK is not"));
        assert!(refused(&[("WORLD_SIZE", "2"), ("RANK", "2")]).contains("below WORLD_SIZE"));
        assert!(refused(&[("WORLD_SIZE", "2"), ("RANK", "1"), ("MASTER_PORT", "70000")]).contains("65535"));
    }
}
