//! Who runs the servers.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// The account that servers and PostgreSQL's other programs run as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Account {
    /// Ourselves.
    Own,
    /// An unprivileged one, since we are root and PostgreSQL refuses to be.
    Other { user: u32, group: u32 },
}

impl Account {
    /// Chooses, given the owner of a folder that we just made.
    ///
    /// # Errors
    ///
    /// [`Error::NoAccount`].
    pub(crate) fn for_owner_of(folder: &Path) -> Result<Self, Error> {
        let owner = fs::metadata(folder)
            .map_err(Error::system(format!("can't look at {}", folder.display())))?
            .uid();
        if owner != 0 {
            return Ok(Self::Own);
        }
        let accounts = fs::read_to_string("/etc/passwd")
            .map_err(Error::system("can't read the accounts in /etc/passwd"))?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| ids(&accounts, name))
            .ok_or(Error::NoAccount)
    }

    /// Gives a folder or a file to this account.
    pub(crate) fn own(self, path: &Path) -> Result<(), Error> {
        let what = || format!("can't hand over {}", path.display());
        match self {
            Self::Own => Ok(()),
            Self::Other { user, group } => {
                chown(path, Some(user), Some(group)).map_err(Error::system(what()))
            }
        }
    }

    /// Lets everybody enter a folder, so that this account can.
    pub(crate) fn open(self, folder: &Path) -> Result<(), Error> {
        if self == Self::Own {
            return Ok(());
        }
        let what = format!("can't open {}", folder.display());
        fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(Error::system(what))
    }

    /// Makes a command run as this account.
    pub(crate) fn apply(self, command: &mut Command) {
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
    }
}

fn ids(accounts: &str, name: &str) -> Option<Account> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut ids = line.split(':').skip(2).map(str::parse);
    Some(Account::Other { user: ids.next()?.ok()?, group: ids.next()?.ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0::/:/bin/sh\npostgres2:x:7:7::/:\npostgres:x:101:104:,,,:/:\n";
        assert_eq!(ids(accounts, "postgres"), Some(Account::Other { user: 101, group: 104 }));
        assert_eq!(ids(accounts, "nobody"), None);
    }
}
