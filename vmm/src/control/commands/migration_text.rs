//! Text commands about migration.

use api_spec::reply::{Empty, Responder};
use api_spec::{
    CommandContext, MigrateArgs, MigrateContinueArgs, MigrateIncomingArgs,
    MigrationCapabilityStatus, MigrationCommands, QmpError, Reply,
};

use super::text::said;
use crate::control::Control;
use crate::control::hmp::{self, MigrationLine};

const DETACHED: &str = "terminal does not allow synchronous migration, continuing detached\n";

impl Control {
    pub(super) fn run_migration(
        &mut self,
        cx: &mut CommandContext,
        line: MigrationLine,
        reply: Reply<String>,
    ) {
        let done = match line {
            MigrationLine::Migrate {
                uri,
                detach,
                resume,
            } => {
                let args = MigrateArgs {
                    uri: Some(uri),
                    channels: None,
                    detach: Some(true),
                    resume: Some(resume),
                };
                let text = if detach { "" } else { DETACHED };
                return self.migrate(cx, args, shown(reply, text));
            }
            MigrationLine::Incoming { uri } => {
                let args = MigrateIncomingArgs {
                    uri: Some(uri),
                    channels: None,
                    exit_on_error: None,
                    ram_load: None,
                };
                return self.migrate_incoming(cx, args, shown(reply, ""));
            }
            MigrationLine::Cancel => self.migrate_cancel(cx).map(drop),
            MigrationLine::Continue(state) => {
                let args = MigrateContinueArgs { state };
                self.migrate_continue(cx, args).map(drop)
            }
            MigrationLine::SetCapability(capability, state) => {
                self.set_migration_capabilities(&[MigrationCapabilityStatus { capability, state }])
            }
            MigrationLine::SetParameter(change) => self.migrate.settings.set_parameters(*change),
            MigrationLine::Never(error) => Err(error),
        };
        let text = done.map(|()| String::new());
        reply.send(Ok(hmp::wire(&said(text))));
    }
}

/// Answers a text command once the command behind it is answered; with `text` if that went well.
fn shown(reply: Reply<String>, text: &'static str) -> Reply<Empty> {
    Reply::new(Responder::new(move |result: Result<String, QmpError>| {
        let text = result.map(|_| text.to_owned());
        reply.send(Ok(hmp::wire(&said(text))));
    }))
}
