;; A function that calls itself for ever through a table.
(module
  (memory (export "memory") 1)
  (type $step (func (param i32) (result i32)))
  (table $t 1 funcref)
  (elem (i32.const 0) func $f)
  (func $f (type $step)
    (i32.add (i32.const 1) (call_indirect $t (type $step) (local.get 0) (i32.const 0))))
  (func (export "_start")
    (drop (call $f (i32.const 1)))))
