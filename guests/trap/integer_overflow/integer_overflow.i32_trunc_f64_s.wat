;; i32.trunc_f64_s of 2147483648, which i32 cannot hold.
(module
  (memory (export "memory") 1)
  (global $x (mut f64) (f64.const 2147483648))
  (func (export "_start")
    (drop (i32.trunc_f64_s (global.get $x)))))
