;; The growth that a memory's own maximum forbids was booked against the guest's limit on Wasmtime: the trap after it was
;; reported as the limit's, and later growth that the limit allows was refused.
;; too_much -> returned i32:0xffffffff
;; gives_up -> trapped: unreachable
;; grow -> returned i32:0x1
(module
  (memory 1 10)
  (func (export "too_much") (result i32) (memory.grow (i32.const 1000)))
  (func (export "gives_up") (drop (memory.grow (i32.const 10))) unreachable)
  (func (export "grow") (result i32) (memory.grow (i32.const 9))))
