;; i64.trunc_f32_u of NaN.
(module
  (memory (export "memory") 1)
  (global $nan (mut f32) (f32.const nan))
  (func (export "_start")
    (drop (i64.trunc_f32_u (global.get $nan)))))
