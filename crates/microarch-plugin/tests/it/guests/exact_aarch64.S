// A loop of which every count is known: see tests/it/exact.rs.
        .globl  _start
_start: mov     x1, #1000
        adrp    x2, words
        add     x2, x2, :lo12:words
again:  ldr     x0, [x2]
        add     x0, x0, #1
        str     x0, [x2]
        ldp     x3, x4, [x2, #16]
        tbz     w1, #0, even
        nop
even:   bl      function
        subs    x1, x1, #1
        b.ne    again
        mov     x0, #0
        mov     x8, #94
        svc     #0
function:
        ldr     q0, [x2, #32]
        ret
        .bss
        .balign 64
words:  .skip   128
