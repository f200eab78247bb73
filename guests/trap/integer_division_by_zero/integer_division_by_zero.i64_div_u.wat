;; i64.div_u by zero. The divisor stands in a mutable global, where no compiler can know it.
(module
  (memory (export "memory") 1)
  (global $zero (mut i64) (i64.const 0))
  (func (export "_start")
    (drop (i64.div_u (i64.const 7) (global.get $zero)))))
