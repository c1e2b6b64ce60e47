# bash completion of qvmd and qvm-qmp. Written by scripts/regen-api from api-spec/schema; change that instead.
# shellcheck shell=bash
_qvmd() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local words="-help -h -version -config -machine -M -accel -enable-kvm -cpu -smp -m -name -uuid -object -kernel -initrd -append -chardev -serial -mon -qmp -qmp-pretty -blockdev -drive -hda -hdb -hdc -hdd -cdrom -snapshot -device -balloon -watchdog -watchdog-action -netdev -nic -net -global -incoming -set -nodefaults -no-user-config -display -nographic -vga -audio -S -loadvm -no-reboot -only-migratable -no-shutdown -action -rtc -daemonize -pidfile -D -d -trace -msg -add-fd -overcommit -sandbox -add-dir -runas -chroot -run-with -qtest -qtest-log"
  case $before in
    -config | --config) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -machine | --machine) words="q35 pc none" ;;
    -M | --M) words="q35 pc none" ;;
    -accel | --accel) words="kvm qtest" ;;
    -cpu | --cpu) words="host max qemu64 kvm64" ;;
    -smp | --smp) return ;;
    -m | --m) return ;;
    -name | --name) return ;;
    -uuid | --uuid) return ;;
    -object | --object) words="authz-list authz-list-file authz-simple iothread memory-backend-file memory-backend-memfd memory-backend-ram rng-builtin rng-random throttle-group tls-creds-x509" ;;
    -kernel | --kernel) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -initrd | --initrd) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -append | --append) return ;;
    -chardev | --chardev) words="null stdio socket pty file ringbuf" ;;
    -serial | --serial) return ;;
    -mon | --mon) return ;;
    -qmp | --qmp) return ;;
    -qmp-pretty | --qmp-pretty) return ;;
    -blockdev | --blockdev) return ;;
    -drive | --drive) return ;;
    -hda | --hda) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -hdb | --hdb) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -hdc | --hdc) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -hdd | --hdd) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -cdrom | --cdrom) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -device | --device) words="virtio-blk-pci virtio-scsi-pci scsi-hd scsi-cd virtio-serial-pci virtconsole virtserialport virtio-rng-pci pcie-root-port isa-serial pvpanic isa-debug-exit virtio-net-pci virtio-balloon-pci i6300esb vhost-vsock-pci vmgenid pvpanic-pci" ;;
    -balloon | --balloon) words="none virtio" ;;
    -watchdog | --watchdog) return ;;
    -watchdog-action | --watchdog-action) words="reset shutdown poweroff inject-nmi pause debug none" ;;
    -netdev | --netdev) words="user tap bridge stream dgram socket hubport vhost-user" ;;
    -nic | --nic) words="none user tap bridge" ;;
    -net | --net) words="none nic user tap bridge socket" ;;
    -global | --global) return ;;
    -incoming | --incoming) words="defer" ;;
    -set | --set) return ;;
    -display | --display) return ;;
    -vga | --vga) return ;;
    -audio | --audio) return ;;
    -loadvm | --loadvm) return ;;
    -action | --action) return ;;
    -rtc | --rtc) return ;;
    -pidfile | --pidfile) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -D | --D) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    -d | --d) return ;;
    -trace | --trace) return ;;
    -msg | --msg) return ;;
    -add-fd | --add-fd) return ;;
    -overcommit | --overcommit) return ;;
    -sandbox | --sandbox) return ;;
    -add-dir | --add-dir) return ;;
    -runas | --runas) return ;;
    -chroot | --chroot) return ;;
    -run-with | --run-with) return ;;
    -qtest | --qtest) return ;;
    -qtest-log | --qtest-log) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _qvmd qvmd

_qvm_qmp() {
  local word=${COMP_WORDS[COMP_CWORD]}
  case $COMP_CWORD in
    1) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    2) mapfile -t COMPREPLY < <(compgen -W "add-fd announce-self balloon block-latency-histogram-set block-set-write-threshold block_resize block_set_io_throttle blockdev-add blockdev-change-medium blockdev-check blockdev-close-tray blockdev-create blockdev-del blockdev-insert-medium blockdev-open-tray blockdev-remove-medium blockdev-reopen blockdev-set-active blockdev-snapshot blockdev-snapshot-apply blockdev-snapshot-delete-internal-sync blockdev-snapshot-internal-sync blockdev-snapshot-sync change-backing-file chardev-add chardev-change chardev-remove chardev-send-break client_migrate_info closefd cont device-list-properties device_add device_del dump-guest-memory eject getfd human-monitor-command inject-nmi job-cancel job-complete job-dismiss job-finalize job-pause job-resume memsave migrate migrate-continue migrate-incoming migrate-pause migrate-recover migrate-set-cache-size migrate-set-capabilities migrate-set-parameters migrate-start-postcopy migrate_cancel migrate_set_downtime migrate_set_speed netdev_add netdev_del object-add object-del pmemsave qmp_capabilities qom-get qom-list qom-list-types qom-set query-balloon query-block query-blockstats query-chardev query-command-line-options query-commands query-cpus-fast query-dump query-dump-guest-memory-capability query-events query-fdsets query-iothreads query-jobs query-kvm query-machines query-memdev query-memory-size-summary query-migrate query-migrate-cache-size query-migrate-capabilities query-migrate-parameters query-name query-named-block-nodes query-pci query-qmp-schema query-rx-filter query-status query-target query-uuid query-version query-vm-generation-id query-yank quit remove-fd ringbuf-read ringbuf-write set-action set_link snapshot-delete snapshot-load snapshot-save stop system_powerdown system_reset trace-event-get-state trace-event-set-state transaction watchdog-set-action x-query-guest-errors yank" -- "$word") ;;
  esac
}
complete -F _qvm_qmp qvm-qmp
