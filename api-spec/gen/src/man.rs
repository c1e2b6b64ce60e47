//! The manual page qvmd(1), in roff.

use crate::model::*;

pub fn emit(schema: &Schema) -> String {
    let mut out = String::from(
        ".\\\" Written by scripts/regen-api from api-spec/schema; change that, or api-spec/gen/src/man.rs, instead.\n\
         .TH QVMD 1 2026-11-26 \"qvmd\" \"User commands\"\n",
    );
    out.push_str(HEAD);
    out.push_str(".SH OPTIONS\n.ad l\nNames and meanings are QEMU's, with one dash or two. Commas in a value are doubled. \
                  Many options take\n.B help\nas their value, and list what there is.\n");
    for option in &schema.options {
        out.push_str(&format!(
            ".TP\n.B {}\n{}\n",
            roff(&option.usage),
            text(&option.doc)
        ));
    }
    out.push_str(".SH QMP COMMANDS\n");
    out.push_str(&format!(
        "Arguments and answers are described in\n.I {REFERENCE}\nand told by the command\n.BR query\\-qmp\\-schema .\n"
    ));
    let mut commands: Vec<_> = schema.commands.iter().collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    for command in commands {
        out.push_str(&format!(
            ".TP\n.B {}\n{}\n",
            roff(&command.name),
            text(first_sentence(&command.doc))
        ));
    }
    out.push_str(".SH QMP EVENTS\n");
    let events: Vec<_> = schema
        .events
        .iter()
        .map(|event| roff(&event.name))
        .collect();
    out.push_str(&format!(".nh\n{}.\n.hy\n", events.join(",\n")));
    out.push_str(TAIL);
    out
}

const REFERENCE: &str = "/usr/share/doc/qvmd/qmp\\-reference.md";

const HEAD: &str = ".SH NAME\nqvmd \\- virtual machine monitor for Linux KVM, driven over QMP
.SH SYNOPSIS
.B qvmd
.RI [ option \" ...]\"
.SH DESCRIPTION
.B qvmd
runs one virtual machine on Linux KVM, on x86\\-64.
It has no user interface: all that a user can do is a QMP command on a socket, or an option when it starts.
It speaks QEMU's wire language and understands QEMU's command line.
A guest is taken for hostile: each thread may make only the system calls that it needs, the process has no
privileges, and can be confined to the files that its options name.
.PP
Without
.B \\-daemonize
it stays in the foreground, and says what is wrong on standard error.
With it, it returns when all sockets listen and the machine is built, with status 0; otherwise with the message and
status 1.
";

const TAIL: &str = ".SH SERVICE
.B systemctl start qvmd@NAME
runs the machine that
.I /etc/qvmd/NAME.conf
describes, a file as for
.BR \\-config .
Its files are in
.IR /var/lib/qvmd/NAME ,
its monitor is
.IR /run/qvmd/NAME/qmp .
The unit is confined:
.I /usr/share/doc/qvmd/security.md
says how, and how it is widened.
.PP
With
.B qmp fd:qmp
in its configuration and
.B systemctl enable \\-\\-now qvmd@NAME.socket
a machine starts when its first client connects to
.IR /run/qvmd/NAME.qmp .
.SH ENVIRONMENT
.TP
.B NOTIFY_SOCKET
Where the service manager hears that the machine is there
.RB ( READY=1 ),
in which state it is
.RB ( STATUS= ),
and that it ends
.RB ( STOPPING=1 ).
See
.BR sd_notify (3).
.TP
.BR LISTEN_PID , \" LISTEN_FDS\" , \" LISTEN_FDNAMES\"
Sockets that the service manager passes, by name:
.B \\-qmp fd:NAME
and
.B \\-chardev socket,fd=NAME,server=on
take them, and so does the command
.BR chardev\\-add .
See
.BR sd_listen_fds (3).
.TP
.B QVMD_LOG
How much is logged where
.B \\-d
does not say: warn, info, debug or trace.
.PP
The first two are taken out of the environment, so that no program that is started sees them.
.SH EXIT STATUS
.TP
.B 0
The machine was ended: by its guest, by the command
.BR quit ,
or by a signal.
.TP
.B 1
The start failed, or the program could not go on.
What happened is told on standard error.
.TP
.B 127
A guest panicked, with
.BR \"\\-action panic=exit\\-failure\" .
.PP
With a device
.B isa\\-debug\\-exit
or
.B pvpanic
a guest can choose others.
A process that makes a forbidden system call is ended by SIGSYS, after a message.
.SH SIGNALS
.TP
.BR SIGTERM , \" SIGINT\" , \" SIGHUP\"
End the machine as if its plug were pulled: clients see the event SHUTDOWN with the reason host\\-signal, what the
guest wrote is made durable, and sockets and pid file are removed.
A signal during the start ends the start.
A second signal changes nothing: to give up what is not durable yet takes SIGKILL.
To have the guest shut down use the command
.BR system_powerdown .
.TP
.B SIGKILL
Leaves unix sockets and the pid file behind.
The same command line works again: they are replaced, and locks on images end with the process.
.SH FILES
.TP
.I /etc/qvmd/NAME.conf
A machine of the unit qvmd@NAME.
.TP
.I /var/lib/qvmd/NAME
Its working directory.
.TP
.IR /run/qvmd/NAME/qmp \", \" /run/qvmd/NAME.qmp
Its monitors.
.TP
.I /usr/libexec/qvmd/qvmd\\-usernet
The process behind
.BR \"\\-netdev user\" .
.TP
.I /usr/share/doc/qvmd
An example of a configuration, the reference of QMP, and more.
.SH EXAMPLES
.EX
qvmd \\-machine q35,accel=kvm \\-cpu host \\-m 512 \\-nodefaults \\-display none \\-daemonize \\e
  \\-kernel vmlinuz \\-append console=ttyS0 \\e
  \\-qmp unix:/run/vm1.qmp,server=on,wait=off \\e
  \\-blockdev driver=file,node\\-name=disk,filename=disk.img \\-device virtio\\-blk\\-pci,drive=disk
qvm\\-qmp /run/vm1.qmp system_powerdown
.EE
.SH SEE ALSO
.BR qvm\\-qmp (1),
.BR qemu\\-img (1),
.BR systemd.service (5)
";

/// Text as roff has it: dashes are those that users type.
fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}

/// A paragraph: each sentence on its own line, and none looks like a request.
fn text(doc: &str) -> String {
    let plain = roff(&doc.replace('`', ""));
    let lines = plain.replace(". ", ".\n");
    let guarded = lines.lines().map(|line| match line.starts_with('.') {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    guarded.collect::<Vec<_>>().join("\n")
}

fn first_sentence(doc: &str) -> &str {
    doc.split_once(". ").map_or(doc, |(first, _)| first)
}

/// The manual page qvm-qmp(1).
pub const CLIENT: &str =
    ".\\\" Written by scripts/regen-api; change api-spec/gen/src/man.rs instead.
.TH QVM\\-QMP 1 2026-11-26 \"qvmd\" \"User commands\"
.SH NAME
qvm\\-qmp \\- gives QMP commands to a virtual machine
.SH SYNOPSIS
.B qvm\\-qmp
.I socket
.RI [ command \" [\" argument=value \" ...]]\"
.SH DESCRIPTION
.B qvm\\-qmp
connects to the monitor of a virtual machine,
.BR qvmd (1)
or QEMU, gives it a command and prints the answer.
Without a command it reads commands, one a line, from standard input.
.SH EXIT STATUS
.TP
.B 0
The command was carried out.
.TP
.B 1
It was refused, or there is nobody to carry it out.
.SH EXAMPLES
.EX
qvm\\-qmp /run/qvmd/vm1/qmp query\\-status
.EE
.SH SEE ALSO
.BR qvmd (1)
";
