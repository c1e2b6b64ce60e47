//! Text commands that look at memory and registers.

use api_spec::{DumpGuestMemoryArgs, DumpStatus, MemsaveArgs, PmemsaveArgs, QmpResult, Reply};

use super::Control;
use super::dumps_show;
use super::hmp::expression::Expression;
use super::hmp::memory::{Ask, Wish, with_help};
use super::hmp::{self, MemoryLine};
use crate::dump::paging::Paging;
use crate::vcpu::view::CpuView;

/// The most bytes that one command shows.
const MOST: u64 = 1 << 20;

impl Control {
    /// Runs a line about memory, as the processor `cpu` sees it.
    pub(super) fn run_memory(
        &mut self,
        monitor: u32,
        cpu: usize,
        line: MemoryLine,
        reply: Reply<String>,
    ) {
        let view = match needs_cpu(&line.ask) {
            true => self
                .machine
                .as_ref()
                .and_then(|machine| machine.cpu(cpu).ok()),
            false => None,
        };
        match values(&line.ask, view.as_ref()) {
            Ok(values) => self.carry_out(monitor, cpu, (line.ask, values, view), reply),
            Err(text) => reply.send(Ok(hmp::wire(&with_help(&text, &line.command)))),
        }
    }

    fn carry_out(
        &mut self,
        monitor: u32,
        cpu: usize,
        (ask, (first, second), view): (Ask, (i64, i64), Option<CpuView>),
        reply: Reply<String>,
    ) {
        let say = move |text: String| reply.send(Ok(hmp::wire(&text)));
        match ask {
            Ask::Dump {
                paging,
                detach,
                format,
                file,
                begin,
                length,
            } => {
                let args = DumpGuestMemoryArgs {
                    paging,
                    protocol: format!("file:{file}"),
                    detach: Some(detach),
                    begin: begin.map(|_| first),
                    length: length.map(|_| second),
                    format: Some(format),
                };
                self.dump_memory(monitor, &args, Box::new(move |result| say(wrong(result))));
            }
            Ask::Save {
                physical: true,
                file,
                ..
            } => {
                let args = PmemsaveArgs {
                    val: first,
                    size: second,
                    filename: file,
                };
                self.save_physical(args, move |result| say(wrong(result)));
            }
            Ask::Save { file, .. } => {
                let args = MemsaveArgs {
                    val: first,
                    size: second,
                    filename: file,
                    cpu_index: i64::try_from(cpu).ok(),
                };
                self.save_virtual(args, move |result| say(wrong(result)));
            }
            Ask::Show { physical, wish, .. } => {
                let space = match (physical, &view) {
                    (true, _) => None,
                    (false, Some(view)) => Paging::of(view),
                    (false, None) => return say("Can not dump without CPU\n".into()),
                };
                say(self.show(wish, first.cast_unsigned(), space));
            }
            Ask::Print { wish, .. } => {
                let letter = wish.letter.unwrap_or(self.text_format.letter);
                self.text_format.letter = letter;
                say(dumps_show::value(letter, first));
            }
            Ask::Cpu(_) => {
                let count = self.machine.as_ref().map_or(0, |m| m.cpu_count());
                let known = usize::try_from(first).is_ok_and(|index| index < count);
                let text = if known { "" } else { "invalid CPU index\n" };
                say(text.into());
            }
            Ask::ToPhysical(_) => {
                let memory = self.guest_memory();
                say(view.map_or_else(
                    || "No cpu\n".into(),
                    |view| dumps_show::physical(&memory, Paging::of(&view), first.cast_unsigned()),
                ));
            }
            Ask::ToHost(_) => say(dumps_show::host(
                &self.guest_memory(),
                first.cast_unsigned(),
            )),
        }
    }

    /// x and xp.
    fn show(&mut self, wish: Wish, address: u64, paging: Option<Paging>) -> String {
        let format = self.text_format.with(wish);
        if format.letter == 'i' {
            return "There is no disassembler in this program\n".into();
        }
        self.text_format = format;
        if wish.count.saturating_mul(u64::from(format.size)) > MOST {
            return format!("No more than {MOST} bytes can be shown at once\n");
        }
        dumps_show::memory(&self.guest_memory(), paging, address, format, wish.count)
    }

    /// info dump.
    pub(super) fn tell_dump(&self) -> String {
        let info = self.dumps.query();
        let mut text = format!("Status: {}\n", info.status.name());
        if info.status == DumpStatus::Active {
            let done = 100.0 * info.completed as f64 / (info.total.max(1)) as f64;
            text.push_str(&format!("Finished: {done:.2} %\n"));
        }
        text
    }

    /// info mem.
    pub(super) fn tell_mapped(&mut self, cpu: usize, reply: Reply<String>) {
        self.tell_paging(cpu, reply, dumps_show::mapped);
    }

    /// info tlb.
    pub(super) fn tell_pages(&mut self, cpu: usize, reply: Reply<String>) {
        self.tell_paging(cpu, reply, dumps_show::pages);
    }

    fn tell_paging(
        &mut self,
        cpu: usize,
        reply: Reply<String>,
        tell: fn(&crate::dump::guest::GuestMemory, Paging) -> String,
    ) {
        let view = self
            .machine
            .as_ref()
            .and_then(|machine| machine.cpu(cpu).ok());
        let Some(view) = view else {
            return reply.send(Ok(hmp::wire("No CPU available\n")));
        };
        let Some(paging) = Paging::of(&view) else {
            return reply.send(Ok(hmp::wire("PG disabled\n")));
        };
        let memory = self.guest_memory();
        let work = move || Ok(hmp::wire(&tell(&memory, paging)));
        self.tell_slowly(work, |text| reply.send(text));
    }
}

fn wrong(result: QmpResult<()>) -> String {
    let text = result.err().map(|error| format!("Error: {}\n", error.desc));
    text.unwrap_or_default()
}

fn expressions(ask: &Ask) -> [Option<&Expression>; 2] {
    match ask {
        Ask::Dump { begin, length, .. } => [begin.as_ref(), length.as_ref()],
        Ask::Save { address, size, .. } => [Some(address), Some(size)],
        Ask::Show { address, .. } => [Some(address), None],
        Ask::Print { value, .. } => [Some(value), None],
        Ask::Cpu(value) | Ask::ToPhysical(value) | Ask::ToHost(value) => [Some(value), None],
    }
}

/// Whether a processor has to be looked at.
fn needs_cpu(ask: &Ask) -> bool {
    let named = expressions(ask).into_iter().flatten();
    let virtual_address = match ask {
        Ask::Show { physical, .. } => !physical,
        Ask::ToPhysical(_) => true,
        Ask::Dump { .. } | Ask::Save { .. } | Ask::Print { .. } | Ask::Cpu(_) | Ask::ToHost(_) => {
            false
        }
    };
    virtual_address || named.into_iter().any(Expression::has_registers)
}

/// What the expressions come to; 0 where there is none.
fn values(ask: &Ask, view: Option<&CpuView>) -> Result<(i64, i64), String> {
    let register = |name: &str| view?.by_name(name);
    let value = |expression: Option<&Expression>| match expression {
        Some(expression) => expression.value(&register),
        None => Ok(0),
    };
    let [first, second] = expressions(ask).map(value);
    let (first, second) = (first?, second?);
    let narrow = first.cast_unsigned() >> 32 == 0;
    if matches!(ask, Ask::Cpu(_)) && !narrow {
        return Err("'cpu' has failed: integer is for 32-bit values".into());
    }
    Ok((first, second))
}
