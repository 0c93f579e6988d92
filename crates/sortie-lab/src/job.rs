//! Programs that run to their end.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::error::Error;
use crate::signal;
use crate::site::Site;

/// Long enough for a slow machine under load, short enough to be noticed.
pub(crate) const JOB_MAX: Duration = Duration::from_secs(120);

impl Site {
    /// Runs a program with `input` and returns what it wrote to standard output.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with what it said; [`Error::Late`], [`Error::Cancelled`] after its end.
    pub(crate) fn run(
        &self,
        what: &str,
        mut command: Command,
        input: &str,
    ) -> Result<String, Error> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(Error::system(format!("can't start {command:?}")))?;
        let id = child.id();
        self.keeper.began(id);
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (ended, out, err) = thread::scope(|scope| {
            // A program that does not read its input to the end says why itself.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input.as_bytes()).ok()));
            let out = scope.spawn(|| text(stdout));
            let err = scope.spawn(|| text(stderr));
            let ended = self.wait(&mut child);
            (ended, out.join().unwrap_or_default(), err.join().unwrap_or_default())
        });
        self.keeper.ended(id);
        match ended? {
            Some(true) => Ok(out),
            Some(false) => {
                Err(Error::Failed { what: what.to_owned(), output: format!("{out}{err}") })
            }
            None => {
                let output = format!("{out}{err}");
                Err(Error::Late { what: what.to_owned(), limit: JOB_MAX, output })
            }
        }
    }

    /// Waits for a program's end and says whether it was a success; `None` when it had to be
    /// ended.
    fn wait(&self, child: &mut Child) -> Result<Option<bool>, Error> {
        let ended = clock::until(JOB_MAX, || {
            self.check_cancel()?;
            child.try_wait().map_err(Error::system("can't wait for a program"))
        });
        if !matches!(ended, Ok(Some(_))) {
            signal::end_group(child.id());
            child.wait().ok();
        }
        Ok(ended?.map(|status| status.success()))
    }
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
