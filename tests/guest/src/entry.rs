//! From the PVH entry (32-bit protected mode, no paging, EBX points to the start information) to
//! 64-bit code with the first 4 GiB mapped one to one.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .note.pvh, "a", @note
    .align 4
    .long 4                     # length of the name
    .long 4                     # length of the value
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long entry32

    .section .text.entry, "ax"
    .code32
    .global entry32
entry32:
    cli
    cld
    mov esi, ebx
    mov esp, offset stack_top

    # Four directories of 512 pages of 2 MiB each: present, writable, large.
    mov edi, offset directories
    mov eax, 0x83
    xor edx, edx
    mov ecx, 2048
2:  mov [edi], eax
    mov [edi + 4], edx
    add eax, 0x200000
    adc edx, 0
    add edi, 8
    dec ecx
    jnz 2b

    mov edi, offset pointers
    mov eax, offset directories
    or eax, 3
    mov ecx, 4
3:  mov [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 3b

    mov eax, offset pointers
    or eax, 3
    mov [level4], eax
    mov dword ptr [level4 + 4], 0

    mov eax, cr4
    or eax, 0x20                # PAE
    mov cr4, eax
    mov eax, offset level4
    mov cr3, eax
    mov ecx, 0xc0000080         # EFER
    rdmsr
    or eax, 0x100               # LME
    wrmsr
    mov eax, cr0
    or eax, 0x80000001          # PG, PE
    mov cr0, eax

    lgdt [descriptors_end]
    push 8
    mov eax, offset entry64
    push eax
    retf

    .code64
entry64:
    mov ax, 16
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov esp, offset stack_top
    mov edi, esi
    xor ebp, ebp
    call {main}
4:  hlt
    jmp 4b

    .align 8
descriptors:
    .quad 0
    .quad 0x00af9b000000ffff    # code, 64 bits
    .quad 0x00cf93000000ffff    # data
descriptors_end:
    .word 23
    .long descriptors
    .long 0

    .section .bss, "aw", @nobits
    .align 4096
level4:      .skip 4096
pointers:    .skip 4096
directories: .skip 16384
stack:       .skip 262144
stack_top:
    "#,
    main = sym crate::main64,
);
