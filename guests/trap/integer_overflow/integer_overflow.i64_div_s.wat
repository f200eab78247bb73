;; The least i64 divided by -1. The remainder of the same two is zero and must not trap.
(module
  (memory (export "memory") 1)
  (global $minus_one (mut i64) (i64.const -1))
  (func (export "_start")
    (if (i64.ne (i64.rem_s (i64.const 0x8000000000000000) (global.get $minus_one)) (i64.const 0))
      (then unreachable))
    (drop (i64.div_s (i64.const 0x8000000000000000) (global.get $minus_one)))))
