;; The same through a table, so that no call has a known target.
(module
  (memory (export "memory") 1)
  (type $step (func (param $depth i32) (result i32)))
  (table $t 1 funcref)
  (elem (i32.const 0) func $f)
  (func $f (type $step)
    (if (i32.eqz (local.get 0))
      (then (return (i32.const 1))))
    (i32.add
      (call_indirect $t (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
      (call_indirect $t (type $step) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))))
  (func (export "_start")
    (drop (call $f (i32.const 64)))))
