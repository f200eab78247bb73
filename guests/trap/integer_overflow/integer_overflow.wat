;; The least i32 divided by -1. The remainder of the same two is zero and must not trap.
(module
  (memory (export "memory") 1)
  (global $minus_one (mut i32) (i32.const -1))
  (func (export "_start")
    (if (i32.ne (i32.rem_s (i32.const 0x80000000) (global.get $minus_one)) (i32.const 0))
      (then unreachable))
    (drop (i32.div_s (i32.const 0x80000000) (global.get $minus_one)))))
