//! The simple query protocol: a text of statements, run one after the other.

use bytes::Bytes;
use sortie_postgres::backend;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reads;
use super::failure::Failure;
use super::portal::{Outcome, Statement};
use super::talk::{Origin, Session, shutting_down};
use crate::sql::{self, Piece, SqlError, state};

impl<S, R> Session<'_, S, R>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    R: Reads,
{
    /// Runs a text of statements; the first that fails ends it.
    pub(super) async fn query(&mut self, text: &Bytes) -> Result<(), Failure> {
        self.state.forget_unnamed();
        let text = sql::utf8(text)?;
        let pieces = sql::split(text)?;
        let batch_max = self.shared.limits.batch_max;
        if pieces.len() > batch_max {
            let message = format!("a query may have {batch_max} statements");
            return Err(SqlError::new(state::PROGRAM_LIMIT_EXCEEDED, message).into());
        }
        if pieces.is_empty() {
            backend::empty_query_response(&mut self.socket.output);
        }
        let origin = if pieces.len() == 1 { Origin::Alone } else { Origin::Batch };
        let statements = self.classify(&pieces)?;
        for (number, (piece, statement)) in pieces.iter().zip(statements).enumerate() {
            if number > 0 && self.is_draining() {
                return Err(Failure::Fatal(shutting_down()));
            }
            self.run_simple(statement, origin).await.map_err(|failure| match failure {
                Failure::Statement(error) => Failure::Statement(error.shifted(piece.offset)),
                end => end,
            })?;
        }
        Ok(())
    }

    /// Classifies all statements before any is run: a syntax error in one is everybody's, while
    /// what else is wrong with one is said when it is its turn.
    fn classify(&self, pieces: &[Piece<'_>]) -> Result<Vec<Result<Statement, SqlError>>, SqlError> {
        let classified = pieces.iter().map(|piece| {
            let prepared = sql::prepare(piece.text, None, &self.shared.catalog);
            match prepared.map(|prepared| Statement::new(prepared, piece.text.len())) {
                Err(error) if error.code == state::SYNTAX_ERROR => Err(error.shifted(piece.offset)),
                other => Ok(other),
            }
        });
        classified.collect()
    }

    async fn run_simple(
        &mut self,
        statement: Result<Statement, SqlError>,
        origin: Origin,
    ) -> Result<(), Failure> {
        let _running = self.shared.stats.statement();
        self.state.check_alive(|| statement.as_ref().is_ok_and(Statement::is_exit))?;
        let statement = statement?;
        let bound = statement.prepared.bind(&[], &[])?;
        let columns = statement.columns().unwrap_or_default();
        match self.run(&bound, columns, &[], origin).await? {
            Outcome::Empty => backend::empty_query_response(&mut self.socket.output),
            Outcome::Done(tag) => backend::command_complete(&mut self.socket.output, tag),
            Outcome::Rows(rows) => {
                statement.describe(&mut self.socket.output, &[])?;
                let tag = rows.tag();
                self.socket.say(rows.frames).await?;
                backend::command_complete(&mut self.socket.output, &tag);
            }
        }
        Ok(self.socket.relieve().await?)
    }
}
