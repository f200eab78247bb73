;; Endless recursion in the start function, while the module is instantiated.
(module
  (memory (export "memory") 1)
  (func $f (param i32) (result i32)
    (i32.add (i32.const 1) (call $f (local.get 0))))
  (func $start
    (drop (call $f (i32.const 1))))
  (start $start)
  (func (export "_start")))
